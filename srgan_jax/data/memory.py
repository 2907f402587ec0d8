"""The source `memory`: images decoded once into uint8 tiles on the device; crops are gathered in the update."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from srgan_jax.data import sampling
from srgan_jax.data.images import ImageArrays


def _tile_counts(sizes: np.ndarray, tile_px: int, window_px: int, crop_px: int) -> np.ndarray:
    stride = tile_px - window_px + 1  # each crop's corner lies in exactly one tile
    return -(-(sizes - crop_px + 1) // stride)


def _fitted_tile(sizes: np.ndarray, tile_px: int, crop_px: int, margin_px: int) -> int:
    """`tile_px`, or the whole padded image where that is smaller; at least one window."""
    return max(min(tile_px, int(sizes.max()) + 2 * margin_px), crop_px + 2 * margin_px)


def store_bytes(sizes: np.ndarray, *, crop_px: int, margin_px: int, tile_px: int, channels: int = 3) -> int:
    """Bytes that `build_store` will take."""
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
) -> dict[str, np.ndarray]:
    """Decodes every image into overlapping tiles such that any crop with its margins lies within one.

    Args:
      images: `[H, W, channels]` uint8 each.
      sizes: `[N, 2]`, theirs.
      crop_px: side of the HR crops.
      margin_px: wanted around a crop; beyond an image's border its outermost pixels are repeated.
      tile_px: side of the tiles.
      channels: 3, or those of packed pairs.

    Returns:
      "tiles" `[M, T, T * channels]` uint8; for each image "first_tile" `[N]`, "columns" `[N]` and "sizes" `[N, 2]`.
    """
    window = crop_px + 2 * margin_px
    tile_px = _fitted_tile(sizes, tile_px, crop_px, margin_px)
    counts = _tile_counts(sizes, tile_px, window, crop_px)
    ends = np.cumsum(counts.prod(axis=1))
    tiles = np.zeros((ends[-1], tile_px, tile_px * channels), np.uint8)
    stride = tile_px - window + 1

    def fill(index):
        padded = np.pad(images[index], ((margin_px, margin_px), (margin_px, margin_px), (0, 0)), mode="edge")
        rows, columns = counts[index]
        for number in range(rows * columns):
            y, x = number // columns * stride, number % columns * stride
            cut = padded[y : y + tile_px, x : x + tile_px]
            cut = cut.reshape(len(cut), -1)
            tiles[ends[index] - rows * columns + number, : cut.shape[0], : cut.shape[1]] = cut

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(fill, range(len(images))))
    first = (ends - counts.prod(axis=1)).astype(np.int32)
    return {"tiles": tiles, "first_tile": first, "columns": counts[:, 1].astype(np.int32), "sizes": sizes}


def gather_windows(
    store: Mapping[str, jax.Array], chosen: jax.Array, keys: jax.Array, *, crop_px: int, margin_px: int
) -> jax.Array:
    """Crops with their margins out of the tiles, inside a jitted update.

    Args:
      store: from `build_store`.
      chosen: `[B]` the image of each sample.
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
