"""The source `memory`: images are decoded once into uint8 tiles on the device; the update gathers crops from them."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax.data import sampling
from srgan_jax.data.images import ImageArrays


def _tile_counts(sizes: np.ndarray, tile_px: int, window_px: int, crop_px: int) -> np.ndarray:
    stride = tile_px - window_px + 1  # each crop's corner lies in exactly one tile
    return -(-(sizes - crop_px + 1) // stride)


def _fitted_tile(sizes: np.ndarray, tile_px: int, crop_px: int, margin_px: int) -> int:
    """Returns `tile_px`, at most the side of the largest padded image and at least that of a window."""
    return max(min(tile_px, int(sizes.max()) + 2 * margin_px), crop_px + 2 * margin_px)


def store_bytes(sizes: np.ndarray, *, crop_px: int, margin_px: int, tile_px: int, channels: int = 3) -> int:
    """Returns the size in bytes of the tiles that `build_store` returns."""
    tile = _fitted_tile(sizes, tile_px, crop_px, margin_px)
    return int(_tile_counts(sizes, tile, crop_px + 2 * margin_px, crop_px).prod(axis=1).sum()) * tile * tile * channels


def build_store(
    images: ImageArrays,
    sizes: np.ndarray,
    *,
    crop_px: int,
    margin_px: int,
    tile_px: int,
    channels: int = 3,
    part: int = 0,
    parts: int = 1,
    multiple: int = 1,
) -> dict[str, np.ndarray]:
    """Decodes all images into overlapping tiles, so that each crop with its margin lies within one tile.

    Args:
      images: `[H, W, channels]` each, all uint8 or all uint16.
      sizes: `[N, 2]` heights and widths of the images.
      crop_px: side of the HR crops.
      margin_px: pixels around a crop; outside the image its outermost pixels are repeated.
      tile_px: side of the tiles.
      channels: 3, or those of packed pairs.
      part: the part of the images that is decoded.
      parts: their number. One after another they are the tiles to which "first_tile" points.
      multiple: the tiles of a part are filled up to a multiple of this number.

    Returns:
      "tiles" `[M, T, T * channels]`, or those of the part; for each image "first_tile" `[N]`, "columns" (of tiles)
      `[N]` and "sizes" `[N, 2]`.
    """
    window = crop_px + 2 * margin_px
    tile_px = _fitted_tile(sizes, tile_px, crop_px, margin_px)
    counts = _tile_counts(sizes, tile_px, window, crop_px)
    owner, first, rows_of_part = _places(counts.prod(axis=1), parts, multiple)
    begin = part * rows_of_part
    tiles = np.zeros((rows_of_part, tile_px, tile_px * channels), images[0].dtype)
    stride = tile_px - window + 1

    def fill(index):
        padded = np.pad(images[index], ((margin_px, margin_px), (margin_px, margin_px), (0, 0)), mode="edge")
        rows, columns = counts[index]
        for number in range(rows * columns):
            y, x = number // columns * stride, number % columns * stride
            cut = padded[y : y + tile_px, x : x + tile_px]
            cut = cut.reshape(len(cut), -1)
            tiles[first[index] - begin + number, : cut.shape[0], : cut.shape[1]] = cut

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(fill, np.flatnonzero(owner == part).tolist()))
    return {
        "tiles": tiles,
        "first_tile": first.astype(np.int32),
        "columns": counts[:, 1].astype(np.int32),
        "sizes": sizes,
    }


def _places(counts: np.ndarray, parts: int, multiple: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns the part of each image and its first tile, and the number of tiles of each part.

    Args:
      counts: `[N]` tiles of each image; whole images in their order make a part.
      parts: their number.
      multiple: divides the number of tiles of a part.
    """
    ends = np.cumsum(counts)
    owner = (ends - counts) * parts // ends[-1]
    found = np.bincount(owner, counts, parts).astype(int)
    rows = -(-found.max() // multiple) * multiple
    return owner, ends - counts - (np.cumsum(found) - found)[owner] + owner * rows, int(rows)


def gather_windows(
    store: Mapping[str, jax.Array],
    chosen: jax.Array,
    keys: jax.Array,
    *,
    crop_px: int,
    margin_px: int,
    min_contrast: float = 0.0,
) -> jax.Array:
    """Returns windows (crops with their margins) from the tiles; for use inside a jitted update.

    Args:
      store: from `build_store`.
      chosen: `[B]` index of the image of each sample.
      keys: `[B]` keys of the samples.
      crop_px: as given to `build_store`.
      margin_px: as given to `build_store`.
      min_contrast: crops with less contrast are drawn again, see `sampling.choose_candidate`; 0 keeps the first.

    Returns:
      `[B, W, W, channels]` uint8, W = crop_px + 2 * margin_px.
    """
    window = crop_px + 2 * margin_px
    channels = store["tiles"].shape[2] // store["tiles"].shape[1]
    stride = store["tiles"].shape[1] - window + 1
    sizes, first_tile, columns = (store[name][chosen] for name in ("sizes", "first_tile", "columns"))

    # Rows are gathered first, then columns are cut from them: a slice of the tiles in both directions makes XLA's TPU
    # backend copy all tiles once for each crop.
    rows = jnp.asarray(store["tiles"]).reshape(-1, store["tiles"].shape[2])

    def cut(first_tile, columns, corner):
        tile = first_tile + corner[0] // stride * columns + corner[1] // stride
        first_row = tile * store["tiles"].shape[1] + corner[0] % stride
        found = rows[first_row + jnp.arange(window)]
        cut = jax.lax.dynamic_slice_in_dim(found, corner[1] % stride * channels, window * channels, axis=1)
        return cut.reshape(window, window, channels)

    if not min_contrast:
        return jax.vmap(cut)(first_tile, columns, sampling.choose_corners(keys, sizes, crop_px))
    corners = sampling.candidate_corners(keys, sizes, crop_px)
    windows = jax.vmap(jax.vmap(cut, in_axes=(None, None, 0)))(first_tile, columns, corners)
    return windows[jnp.arange(len(windows)), sampling.choose_candidate(windows, min_contrast)]
