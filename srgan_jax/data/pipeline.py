"""Two sources of training samples, both addressed by the global sample index, so the position of both is the step.

memory   pictures decoded once into uint8 tiles that live on the device; crops are gathered inside the update
stream   pictures decoded as they are needed, by grain's threads, ahead of the updates
"""

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import grain
import jax
import numpy as np
import psutil

from srgan_jax.data import sampling
from srgan_jax.data.builder import DatasetError, Pictures
from srgan_jax.data.pairs import Chosen

SOURCES = ("memory", "stream")


def without_small(pictures: Pictures, crop_px: int) -> tuple[Sequence[np.ndarray], np.ndarray, list[str]]:
    """The pictures that a crop fits into, their heights and widths `[N, 2]`, and a line on those left out.

    Raises:
      DatasetError: no picture is large enough.
    """
    sizes = np.array([pictures.size(index) for index in range(len(pictures))], np.int32)
    fits = sizes.min(axis=1) >= crop_px
    small = np.flatnonzero(~fits)
    listed = ", ".join(f"number {i} ({sizes[i][1]} x {sizes[i][0]})" for i in small[:10])
    line = f"{small.size} of {len(sizes)} pictures, smaller than config.data.crop_px={crop_px}: {listed}"
    if not fits.any():
        raise DatasetError(f"{line}; lower config.data.crop_px")
    return (Chosen(pictures, np.flatnonzero(fits)), sizes[fits], [line]) if small.size else (pictures, sizes, [])


# ---------------------------------------------------------------------------------------------- memory


def _tile_counts(sizes: np.ndarray, tile_px: int, window_px: int, crop_px: int) -> np.ndarray:
    stride = tile_px - window_px + 1  # each crop's corner lies in exactly one tile
    return -(-(sizes - crop_px + 1) // stride)


def _fitted_tile(sizes: np.ndarray, tile_px: int, crop_px: int, margin_px: int) -> int:
    """`tile_px`, or the whole padded picture where that is smaller; at least one window."""
    return max(min(tile_px, int(sizes.max()) + 2 * margin_px), crop_px + 2 * margin_px)


def store_bytes(sizes: np.ndarray, *, crop_px: int, margin_px: int, tile_px: int, channels: int = 3) -> int:
    """Bytes that `build_store` will take."""
    tile = _fitted_tile(sizes, tile_px, crop_px, margin_px)
    return int(_tile_counts(sizes, tile, crop_px + 2 * margin_px, crop_px).prod(axis=1).sum()) * tile * tile * channels


def build_store(
    pictures: Sequence[np.ndarray],
    sizes: np.ndarray,
    *,
    crop_px: int,
    margin_px: int,
    tile_px: int,
    channels: int = 3,
) -> dict[str, np.ndarray]:
    """Decodes every picture into overlapping tiles such that any crop with its margins lies within one.

    Args:
      pictures: `[H, W, channels]` uint8 each.
      sizes: `[N, 2]`, theirs.
      crop_px: side of the HR crops.
      margin_px: wanted around a crop; beyond a picture's border its outermost pixels are repeated.
      tile_px: side of the tiles.
      channels: 3, or those of packed pairs.

    Returns:
      "tiles" `[M, T, T * channels]` uint8; for each picture "first_tile" `[N]`, "columns" `[N]` and "sizes" `[N, 2]`.
    """
    window = crop_px + 2 * margin_px
    tile_px = _fitted_tile(sizes, tile_px, crop_px, margin_px)
    counts = _tile_counts(sizes, tile_px, window, crop_px)
    ends = np.cumsum(counts.prod(axis=1))
    tiles = np.zeros((ends[-1], tile_px, tile_px * channels), np.uint8)
    stride = tile_px - window + 1

    def fill(index):
        padded = np.pad(pictures[index], ((margin_px, margin_px), (margin_px, margin_px), (0, 0)), mode="edge")
        rows, columns = counts[index]
        for number in range(rows * columns):
            y, x = number // columns * stride, number % columns * stride
            cut = padded[y : y + tile_px, x : x + tile_px]
            cut = cut.reshape(len(cut), -1)
            tiles[ends[index] - rows * columns + number, : cut.shape[0], : cut.shape[1]] = cut

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(fill, range(len(pictures))))
    first = (ends - counts.prod(axis=1)).astype(np.int32)
    return {"tiles": tiles, "first_tile": first, "columns": counts[:, 1].astype(np.int32), "sizes": sizes}


def gather_windows(
    store: Mapping[str, jax.Array], chosen: jax.Array, keys: jax.Array, *, crop_px: int, margin_px: int
) -> jax.Array:
    """Crops with their margins out of the tiles, inside a jitted update.

    Args:
      store: from `build_store`.
      chosen: `[B]` the picture of each sample.
      keys: `[B]`.
      crop_px: as given to `build_store`.
      margin_px: as given to `build_store`.

    Returns:
      `[B, W, W, channels]` uint8, W = crop_px + 2 * margin_px.
    """
    window = crop_px + 2 * margin_px
    channels = store["tiles"].shape[2] // store["tiles"].shape[1]
    stride = store["tiles"].shape[1] - window + 1
    corners = sampling.choose_corners(keys, store["sizes"][chosen], crop_px)
    tile = store["first_tile"][chosen] + corners[:, 0] // stride * store["columns"][chosen] + corners[:, 1] // stride

    def cut(tile, corner):
        start = (tile, corner[0] % stride, corner[1] % stride * channels)
        cut = jax.lax.dynamic_slice(store["tiles"], start, (1, window, window * channels))
        return cut.reshape(window, window, channels)

    return jax.vmap(cut)(tile, corners)


# ---------------------------------------------------------------------------------------------- stream


@functools.partial(jax.jit, static_argnames=("batch_size", "pictures"))
def _plan(seed, step, indices, batch_size, pictures):
    chosen = sampling.choose_pictures(seed, step, indices, batch_size, pictures)
    return chosen, jax.random.key_data(sampling.sample_keys(seed, step, indices))


@functools.partial(jax.jit, static_argnames="crop_px")
def _corners(key_data, sizes, crop_px):
    return sampling.choose_corners(jax.random.wrap_key_data(key_data), sizes, crop_px)


def _cut(picture: np.ndarray, corner: np.ndarray, crop_px: int, margin_px: int) -> np.ndarray:
    rows, columns = (
        np.clip(np.arange(start - margin_px, start + crop_px + margin_px), 0, size - 1)
        for start, size in zip(corner, picture.shape[:2], strict=True)
    )
    return picture[rows[:, None], columns]


def _cpu() -> jax.Device:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        raise DatasetError("decoding on the host needs JAX's CPU backend: set JAX_PLATFORMS=cuda,cpu") from None


def read_windows(
    pictures: Sequence[np.ndarray],
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
        chosen, key_data = _plan(seed, np.int32(step), indices, batch_size, len(pictures))
        chosen = [pictures[index] for index in np.asarray(chosen)]
        sizes = np.array([picture.shape[:2] for picture in chosen], np.int32)
        if sizes.min() < crop_px:
            raise DatasetError(
                f"a picture of {sizes[sizes.min(axis=1).argmin()].tolist()} px is smaller than config.data.crop_px="
                f"{crop_px}; prepare the folder again with --min-side {crop_px}, or use config.data.source=memory"
            )
        corners = np.asarray(_corners(key_data, sizes, crop_px))
    return np.stack([_cut(p, corner, crop_px, margin_px) for p, corner in zip(chosen, corners, strict=True)])


def stream_windows(
    pictures: Sequence[np.ndarray],
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
      pictures: decoded when indexed.
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
            pictures, seed, int(step), indices, batch_size=batch_size, crop_px=crop_px, margin_px=margin_px
        )

    options = grain.ReadOptions(num_threads=threads or os.cpu_count(), prefetch_buffer_size=prefetch)
    return iter(grain.MapDataset.range(steps.start, steps.stop).map(read).to_iter_dataset(options))


def decode_all(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Every picture decoded, in host memory."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(pictures.__getitem__, range(len(pictures))))


def host_memory_bytes() -> int:
    """Physical memory of this machine."""
    return psutil.virtual_memory().total
