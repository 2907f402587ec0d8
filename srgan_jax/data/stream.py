"""The source `stream`: grain's threads decode images on demand, ahead of the updates."""

import functools
import os
from collections.abc import Iterator

import grain
import jax
import numpy as np

from srgan_jax.data import sampling
from srgan_jax.data.builder import DatasetError
from srgan_jax.data.images import ImageArrays
from srgan_jax.runtime.types import Device


@functools.partial(jax.jit, static_argnames=("batch_size", "image_count"))
def _plan(seed, step, indices, batch_size, image_count):
    chosen = sampling.choose_images(seed, step, indices, batch_size, image_count)
    return chosen, jax.random.key_data(sampling.sample_keys(seed, step, indices))


@functools.partial(jax.jit, static_argnames=("crop_px", "several"))
def _corners(key_data, sizes, crop_px, several):
    """Returns the corners `[B, K, 2]` of the candidates for each sample, with K = 1 unless `several`."""
    keys = jax.random.wrap_key_data(key_data)
    if several:
        return sampling.candidate_corners(keys, sizes, crop_px)
    return sampling.choose_corners(keys, sizes, crop_px)[:, None]


def cut_window(image: np.ndarray, corner: np.ndarray, crop_px: int, margin_px: int) -> np.ndarray:
    """Returns the crop at `corner` with its margin; outside the image its outermost pixels are repeated."""
    rows, columns = (
        np.clip(np.arange(start - margin_px, start + crop_px + margin_px), 0, size - 1)
        for start, size in zip(corner, image.shape[:2], strict=True)
    )
    return image[rows[:, None], columns]


def _cpu() -> Device:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        raise DatasetError("decoding on the host needs JAX's CPU backend; set JAX_PLATFORMS=cuda,cpu") from None


def read_windows(
    images: ImageArrays,
    seed: np.ndarray,
    step: int,
    indices: np.ndarray,
    *,
    batch_size: int,
    crop_px: int,
    margin_px: int,
    min_contrast: float = 0.0,
) -> np.ndarray:
    """Returns the same windows as `memory.gather_windows`, cut on the host.

    Args:
      images: decoded when indexed.
      seed: key data, uint32.
      step: number of the batch.
      indices: `[B]` positions in the global batch.
      batch_size: samples in the global batch.
      crop_px: side of the HR crops.
      margin_px: pixels around a crop.
      min_contrast: as for `memory.gather_windows`.

    Returns:
      `[B, W, W, C]` uint8, W = crop_px + 2 * margin_px.

    Raises:
      DatasetError: an image is smaller than `crop_px`, or JAX has no CPU backend.
    """
    with jax.default_device(_cpu()):
        chosen, key_data = _plan(seed, np.int32(step), indices, batch_size, len(images))
        chosen = [images[index] for index in np.asarray(chosen)]
        sizes = np.array([image.shape[:2] for image in chosen], np.int32)
        if sizes.min() < crop_px:
            raise DatasetError(
                f"an image of {sizes[sizes.min(axis=1).argmin()].tolist()} px is smaller than config.data.crop_px="
                f"{crop_px}; prepare the folder again with --min-side {crop_px}, or use config.data.source=memory"
            )
        corners = np.asarray(_corners(key_data, sizes, crop_px, min_contrast > 0))
        windows = np.stack(
            [
                [cut_window(p, corner, crop_px, margin_px) for corner in own]
                for p, own in zip(chosen, corners, strict=True)
            ]
        )
        index = np.asarray(sampling.choose_candidate(windows, min_contrast)) if min_contrast else 0
    return windows[np.arange(len(windows)), index]


def stream_windows(
    images: ImageArrays,
    seed: np.ndarray,
    steps: range,
    indices: np.ndarray,
    *,
    batch_size: int,
    crop_px: int,
    margin_px: int,
    min_contrast: float = 0.0,
    threads: int | None = None,
    prefetch: int = 8,
) -> Iterator[np.ndarray]:
    """Returns an iterator over `read_windows` of each of `steps`, read ahead by grain's threads.

    Args:
      images: decoded when indexed.
      seed: key data, uint32.
      steps: numbers of the batches; the windows of a step don't depend on the first step.
      indices: `[B]` positions of this process's samples in the global batch.
      batch_size: samples in the global batch.
      crop_px: side of the HR crops.
      margin_px: pixels around a crop.
      min_contrast: as for `memory.gather_windows`.
      threads: number of reading threads; None means the number of cores.
      prefetch: number of batches read ahead.
    """

    def read(step):
        return read_windows(
            images, seed, int(step), indices, batch_size=batch_size, crop_px=crop_px, margin_px=margin_px,
            min_contrast=min_contrast,
        )  # fmt: skip

    options = grain.ReadOptions(num_threads=threads or os.cpu_count() or 1, prefetch_buffer_size=prefetch)
    return iter(grain.MapDataset.range(steps.start, steps.stop).map(read).to_iter_dataset(options))
