"""The batch of an update, as a plan that is made once and followed inside the update."""

import dataclasses
import math
from collections.abc import Callable, Mapping

import jax

from srgan_jax.data import batches, memory, sampling


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """How HR crops and their LR images are made of windows.

    Attributes:
      scale: HR pixels per LR pixel.
      crop_px: side of the HR crops.
      batch_size: samples of an update over all devices.
      augment: flip and rotate at random.
      rescale: smallest factor by which HR is shrunk at random first; 1 leaves it as it is.
      degrade: `(key, hr, *, scale) -> lr`; None where LR images are given (paired data).
      radius_px: HR pixels around a crop that its LR image depends on.
    """

    scale: int
    crop_px: int
    batch_size: int
    augment: bool = True
    rescale: float = 1.0
    degrade: Callable[..., jax.Array] | None = None
    radius_px: int = 0

    @property
    def is_paired(self) -> bool:
        """Whether LR images are given."""
        return self.degrade is None

    @property
    def margin_px(self) -> int:
        """The margin that is degraded and trimmed: a multiple of the scale that covers `radius_px`."""
        return 0 if self.is_paired else math.ceil(self.radius_px / self.scale) * self.scale

    @property
    def window(self) -> dict[str, int]:
        """`crop_px` and `margin_px` of the windows that sources cut; of paired data, in LR pixels."""
        if self.is_paired:
            return {"crop_px": self.crop_px // self.scale, "margin_px": 0}
        crop, margin = batches.rescaled_window(self.crop_px, self.margin_px, self.rescale)
        return {"crop_px": crop, "margin_px": margin}

    @property
    def channels(self) -> int:
        """Channels of the windows: RGB, or the pixels of a packed pair."""
        return 3 * self.scale**2 + 3 if self.is_paired else 3


def draw_batch(
    plan: BatchPlan,
    seed: jax.Array,
    step: jax.Array,
    indices: jax.Array,
    store: Mapping[str, jax.Array] | None,
    windows: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """Returns the samples at `indices` of the global batch number `step`.

    Args:
      plan: how they are made.
      seed: key data, uint32.
      step: of the batch.
      indices: `[B]` positions in the global batch.
      store: tiles from `memory.build_store`, from which windows are gathered.
      windows: `[B, W, W, C]` uint8 in place of a store.

    Returns:
      "hr" `[B, crop, crop, 3]` and "lr" `[B, crop / scale, crop / scale, 3]` in [0, 1], and "keys" `[B]`.
    """
    keys = sampling.sample_keys(seed, step, indices)
    if windows is None:
        if store is None:
            raise ValueError("expected tiles in a store, or windows")
        chosen = sampling.choose_images(seed, step, indices, plan.batch_size, store["sizes"].shape[0])
        windows = memory.gather_windows(store, chosen, keys, **plan.window)
    if plan.degrade is None:
        batch = batches.make_paired_batch(windows, keys, scale=plan.scale, augment=plan.augment)
    else:
        batch = batches.make_batch(
            windows, keys, degrade=plan.degrade, scale=plan.scale, margin_px=plan.margin_px,
            augment=plan.augment, rescale=plan.rescale, crop_px=plan.crop_px,
        )  # fmt: skip
    return batch | {"keys": keys}
