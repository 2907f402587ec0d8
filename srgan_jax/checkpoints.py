"""Training states on disk, by Orbax: the only file that imports it."""

import logging
import os
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging as absl_logging
from orbax.checkpoint.checkpoint_managers import preservation_policy as policies

from srgan_jax.errors import UserError

WITHOUT_SCORE = float("-inf")


def open_manager(
    folder: str | os.PathLike, *, keep: int = 3, best_metric: str = "", lower_is_better: bool = False
) -> ocp.CheckpointManager:
    """The checkpoints in `folder`: written in the background, whole or not at all.

    Args:
      folder: made where absent.
      keep: how many of the newest to keep.
      best_metric: the one with the best value of this metric is kept too; "" for none.
      lower_is_better: which value is the best.
    """
    absl_logging.set_verbosity(absl_logging.ERROR)
    logging.getLogger("orbax").setLevel(logging.ERROR)

    def score(metrics):
        if best_metric not in (metrics or {}):
            return WITHOUT_SCORE
        return -metrics[best_metric] if lower_is_better else metrics[best_metric]

    kept = [policies.LatestN(keep)]
    if best_metric:
        kept += [policies.BestN(get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False)]
    options = ocp.CheckpointManagerOptions(
        preservation_policy=policies.AnyPreservationPolicy(kept),
        best_fn=score if best_metric else None,  # without it the scores are not stored, and forgotten at a resume
        cleanup_tmp_directories=True,
    )
    return ocp.CheckpointManager(os.path.abspath(folder), options=options)


def save(manager: ocp.CheckpointManager, step: int, state: Any, metrics: dict[str, float] | None = None) -> None:
    """Starts writing `state`; returns once it is copied, so that the next update may donate it.

    Raises:
      RuntimeError: Orbax refused the step (it is not above the latest).
    """
    if not manager.save(step, args=ocp.args.StandardSave(state), metrics=metrics or None):
        raise RuntimeError(
            f"checkpoint {step} was not saved: {manager.directory} already holds {manager.latest_step()}"
        )


def restore(manager: ocp.CheckpointManager, state: Any) -> Any | None:
    """The newest state, laid out over devices as `state` is; None where there is no checkpoint.

    Raises:
      ValueError: the checkpoint holds other tensors than `state`.
    """
    step = manager.latest_step()
    if step is None:
        return None
    like = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
    try:
        return manager.restore(step, args=ocp.args.StandardRestore(like))
    except (ValueError, KeyError) as error:
        raise UserError(
            f"checkpoint {step} in {manager.directory} doesn't fit this config ({str(error).splitlines()[0]}); "
            "use another --workdir, or the config it was trained with"
        ) from None
