"""`OldCheckpoints`, which chooses the checkpoints that are not kept, and deletes them."""

from collections.abc import Callable, Sequence
from typing import Any

from orbax.checkpoint.checkpoint_managers import preservation_policy as policies

from srgan_jax.runtime import storage
from srgan_jax.runtime.types import PyTree

NO_SCORE = float("-inf")


class OldCheckpoints:
    """A policy of Orbax that keeps all checkpoints, and records those to delete once the new checkpoint is complete.

    Orbax would delete them while it saves, and if a deletion failed, the save would fail.
    """

    def __init__(
        self, folder: Any, keep: int, best_metric: str, lower_is_better: bool, report: Callable[[str], object]
    ):
        """Keeps the newest `keep` checkpoints in `folder`, and the one with the best `best_metric`; "" for none."""
        self._folder, self._best, self._report = folder, best_metric, report
        self._sign = -1 if lower_is_better else 1
        kept: list[policies.PreservationPolicy] = [policies.LatestN(keep)]
        if best_metric:
            kept += [policies.BestN(get_metric_fn=self.score, n=1, keep_checkpoints_without_metrics=False)]
        self._kept = policies.AnyPreservationPolicy(kept)
        self._old: set[int] = set()
        self._reported: set[int] = set()

    def score(self, metrics: PyTree) -> float:
        """Returns the score of a checkpoint, higher for a better one; -inf if it has none."""
        return self._sign * metrics[self._best] if self._best in (metrics or {}) else NO_SCORE

    def should_preserve(
        self, checkpoints: Sequence[PyTree], *, context: policies.PreservationContext
    ) -> Sequence[bool]:
        """Returns True for each checkpoint, and records those that are to be deleted; called by Orbax at each save."""
        kept = self._kept.should_preserve(checkpoints, context=context)
        self._old |= {found.step for found, keep in zip(checkpoints, kept, strict=True) if not keep}
        return [True] * len(checkpoints)

    def delete(self) -> None:
        """Deletes the recorded checkpoints; reports each one that can't be deleted once."""
        for step in sorted(self._old):
            try:
                storage.rmtree(self._folder / str(step))
            except FileNotFoundError:  # deleted before
                pass
            except OSError as error:
                if step not in self._reported:
                    reason = error.strerror or type(error).__name__
                    self._report(
                        f"WARNING: the old checkpoint {self._folder / str(step)} can't be deleted ({reason}); training "
                        "continues, and newer checkpoints are not affected"
                    )
                self._reported.add(step)
                continue
            self._old.discard(step)
