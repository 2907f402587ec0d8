"""The source `stream`: images decoded as they are needed, by grain's threads, ahead of the updates."""

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


@functools.partial(jax.jit, static_argnames="crop_px")
def _corners(key_data, sizes, crop_px):
    return sampling.choose_corners(jax.random.wrap_key_data(key_data), sizes, crop_px)


def _cut(image: np.ndarray, corner: np.ndarray, crop_px: int, margin_px: int) -> np.ndarray:
    rows, columns = (
        np.clip(np.arange(start - margin_px, start + crop_px + margin_px), 0, size - 1)
        for start, size in zip(corner, image.shape[:2], strict=True)
    )
    return image[rows[:, None], columns]


def _cpu() -> Device:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        raise DatasetError("decoding on the host needs JAX's CPU backend: set JAX_PLATFORMS=cuda,cpu") from None


def read_windows(
    images: ImageArrays,
    seed: np.ndarray,
    step: int,
    indices: np.ndarray,
    *,
    batch_size: int,
    crop_px: int,
    margin_px: int,
) -> np.ndarray:
    """The windows that `gather_windows` gives for the same samples, cut on the host.

    Returns:
      `[len(indices), W, W, 3]` uint8.
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
        corners = np.asarray(_corners(key_data, sizes, crop_px))
    return np.stack([_cut(p, corner, crop_px, margin_px) for p, corner in zip(chosen, corners, strict=True)])


def stream_windows(
    images: ImageArrays,
    seed: np.ndarray,
    steps: range,
    indices: np.ndarray,
    *,
    batch_size: int,
    crop_px: int,
    margin_px: int,
    threads: int | None = None,
    prefetch: int = 8,
) -> Iterator[np.ndarray]:
    """`read_windows` for each of `steps`, read ahead by grain's threads.

    Args:
      images: decoded when indexed.
      seed: key data, uint32.
      steps: of the updates to come; starting later gives the same windows for the same step.
      indices: of this process's samples in the global batch.
      batch_size: the global batch.
      crop_px: side of the HR crops.
      margin_px: around them.
      threads: readers; the number of cores by default.
      prefetch: batches held ready.
    """

    def read(step):
        return read_windows(
            images, seed, int(step), indices, batch_size=batch_size, crop_px=crop_px, margin_px=margin_px
        )

    options = grain.ReadOptions(num_threads=threads or os.cpu_count() or 1, prefetch_buffer_size=prefetch)
    return iter(grain.MapDataset.range(steps.start, steps.stop).map(read).to_iter_dataset(options))
