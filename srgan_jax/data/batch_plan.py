"""`BatchPlan`, the static description of a batch, and `draw_batch`, which makes the batch inside the jitted update."""

import dataclasses
import math
from collections.abc import Callable, Mapping

import jax
import numpy as np

from srgan_jax.data import batches, memory, sampling


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """Describes how HR crops and their LR images are made from windows.

    Attributes:
      scale: HR pixels per LR pixel.
      crop_px: side of the HR crops.
      batch_size: samples per update over all devices.
      augment: a name in `batches.AUGMENTATIONS`.
      rescale: HR is first shrunk by a random factor between this and 1; 1 keeps its size.
      degrade: `(key, hr, *, scale) -> lr`; None for paired data, which contain the LR images.
      lr_of_original: `(original, size) -> lr`, with which the data set makes pairs from original images; else None.
      radius_px: HR pixels around a crop that its LR image depends on.
      halo_px: LR pixels around a crop that only the generator's input has; SR is cropped before the losses.
      min_contrast: crops with less contrast are drawn again, see `sampling.choose_candidate`; 0 keeps the first.
      bands: channels of the images.
    """

    scale: int
    crop_px: int
    batch_size: int
    augment: str = "flips_rotations"
    rescale: float = 1.0
    degrade: Callable[..., jax.Array] | None = None
    lr_of_original: Callable[[np.ndarray, tuple[int, int]], np.ndarray] | None = None
    radius_px: int = 0
    halo_px: int = 0
    min_contrast: float = 0.0
    bands: int = 3

    @property
    def is_paired(self) -> bool:
        """Whether the data contain LR images."""
        return self.degrade is None

    @property
    def margin_px(self) -> int:
        """The margin that is degraded and then trimmed: `radius_px` rounded up to a multiple of the scale."""
        return 0 if self.is_paired else math.ceil(self.radius_px / self.scale) * self.scale

    @property
    def window(self) -> dict[str, int]:
        """`crop_px` and `margin_px` of the windows that sources cut; for paired data, in LR pixels."""
        if self.is_paired:
            return {"crop_px": self.input_px, "margin_px": 0}
        crop, margin = batches.rescaled_window(self.input_px * self.scale, self.margin_px, self.rescale)
        return {"crop_px": crop, "margin_px": margin}

    @property
    def input_px(self) -> int:
        """Side of the generator's input in LR pixels, halo included."""
        return self.crop_px // self.scale + 2 * self.halo_px

    @property
    def channels(self) -> int:
        """Channels of the windows: `bands`, or those of a packed pair (`datasets.pack`)."""
        return self.bands * self.scale**2 + self.bands if self.is_paired else self.bands


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
      plan: of the batch.
      seed: key data, uint32.
      step: number of the batch.
      indices: `[B]` positions in the global batch.
      store: tiles from `memory.build_store`, from which windows are gathered; unused if `windows` are given.
      windows: `[B, W, W, C]` uint8 or uint16.

    Returns:
      "hr" `[B, crop, crop, 3]` and "lr" `[B, crop / scale, crop / scale, 3]` in [0, 1], and "keys" `[B]`. With a halo
      also "input" `[B, input_px, input_px, 3]`, the LR image from which the generator makes SR.
    """
    keys = sampling.sample_keys(seed, step, indices)
    if windows is None:
        if store is None:
            raise ValueError("draw_batch: expected store or windows, got neither")
        chosen = sampling.choose_images(seed, step, indices, plan.batch_size, store["sizes"].shape[0])
        windows = memory.gather_windows(store, chosen, keys, **plan.window, min_contrast=plan.min_contrast)
    if plan.degrade is None:
        batch = batches.make_paired_batch(windows, keys, scale=plan.scale, augment=plan.augment)
    else:
        batch = batches.make_batch(
            windows, keys, degrade=plan.degrade, scale=plan.scale, margin_px=plan.margin_px,
            augment=plan.augment, rescale=plan.rescale, crop_px=plan.input_px * plan.scale,
        )  # fmt: skip
    return _without_halo(batch, plan) | {"keys": keys}


def _without_halo(batch: dict[str, jax.Array], plan: BatchPlan) -> dict[str, jax.Array]:
    if not plan.halo_px:
        return batch
    inner, inner_hr = (slice(px, -px) for px in (plan.halo_px, plan.halo_px * plan.scale))
    return {
        "hr": batch["hr"][:, inner_hr, inner_hr],
        "lr": batch["lr"][:, inner, inner],
        "input": batch["lr"],
    }
