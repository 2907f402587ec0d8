"""The discriminator's accuracy on crops of the validation images, which shows whether it memorises."""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax.data.batch_plan import draw_batch
from srgan_jax.data.datasets import pack
from srgan_jax.data.stream import cut_window
from srgan_jax.evaluation.pairs import Pair
from srgan_jax.ops.resize import centre_crop
from srgan_jax.runtime.types import PyTree
from srgan_jax.training.check_by_shape import without_pmap_axis
from srgan_jax.training.players import discriminator_loss, forward
from srgan_jax.training.stage import Stage, with_features
from srgan_jax.training.state import TrainState

BATCHES = 8  # with batches of 16 crops, the standard error of an accuracy is at most .045
GAP = 0.1  # difference of accuracies above which the discriminator is reported to memorise
SIDES = ("d_accuracy_real", "d_accuracy_fake")


def accuracies(stage: Stage, state: TrainState, pairs: Sequence[Pair]) -> dict[str, float]:
    """Returns "d_accuracy_real_validation" and "d_accuracy_fake_validation", for crops of validation images.

    LR of the crops is made as in training. The networks run in training mode, as for the accuracies on training crops.
    {} without a discriminator, or if no validation image is as large as a crop.
    """
    pairs = [pair for pair in pairs if min(pair.hr.shape[:2]) >= stage.plan.input_px * stage.plan.scale]
    if state.discriminator is None or not pairs:
        return {}
    g, d = jax.device_get((state.generator, state.discriminator))  # each process computes all of it
    variables = stage.extractor.variables if stage.extractor else None
    seed = jax.random.key_data(jax.random.key(stage.seed))
    indices = np.arange(stage.plan.batch_size, dtype=np.int32)
    found = []
    for number in range(BATCHES):
        windows = _windows(stage, pairs, number)
        metrics = _metrics(stage, g, d, seed, np.int32(number), indices, windows, variables)
        found.append([float(metrics[side]) for side in SIDES if side in metrics])
    return {f"{side}_validation": mean for side, mean in zip(SIDES, np.mean(found, axis=0).tolist(), strict=False)}


def _windows(stage: Stage, pairs: Sequence[Pair], number: int) -> np.ndarray:
    """Returns the windows of a batch, `[B, W, W, C]`: random crops of the validation images, the same at each call."""
    plan, rng = stage.plan, np.random.default_rng(number)
    windows = []
    for index in range(plan.batch_size):
        pair = pairs[(number * plan.batch_size + index) % len(pairs)]
        image = pack(pair.hr, pair.lr) if plan.is_paired else pair.hr
        crop = plan.window["crop_px"]
        corner = rng.integers([max(1, side - crop + 1) for side in image.shape[:2]])
        windows.append(cut_window(image, corner, **plan.window))
    return np.stack(windows)


@functools.partial(jax.jit, static_argnames="stage")
def _metrics(
    stage: Stage, g: PyTree, d: PyTree, seed: jax.Array, number: np.int32, indices: np.ndarray, windows: np.ndarray,
    variables: PyTree,
) -> PyTree:  # fmt: skip
    game = with_features(without_pmap_axis(stage).game, stage.extractor, variables)
    step = jnp.asarray(number)
    batch = draw_batch(stage.plan, seed, step, jnp.asarray(indices), None, jnp.asarray(windows))
    sr, _ = forward(game.generator, g.params, g.batch_stats, batch.get("input", batch["lr"]))
    sr = centre_crop(sr, batch["hr"].shape)
    return discriminator_loss(d.params, game, d, batch, sr, step)[1][0]


def memorisation_warning(training: Mapping[str, float], unseen: Mapping[str, float]) -> str | None:
    """Returns a line if the accuracy on training crops exceeds that on validation crops by more than `GAP`, else None.

    Args:
      training: the latest logged metrics.
      unseen: from `accuracies`.
    """
    trained = np.mean([training.get(side, np.nan) for side in SIDES])
    validation = np.mean([unseen.get(f"{side}_validation", np.nan) for side in SIDES])
    if not trained - validation > GAP:
        return None
    return (
        f"the discriminator memorises: it classifies {trained:.0%} of training crops correctly, and {validation:.0%} "
        "of crops of validation images; more images, a narrower discriminator or fewer updates help"
    )
