"""The source `memory`: images are decoded once into uint8 tiles on the device; the update gathers crops from them."""

import functools
import math
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from srgan_jax.data import sampling
from srgan_jax.data.images import ImageArrays
from srgan_jax.runtime import devices

# TPUs keep bytes in blocks of 32 x 128. Tiles of other sizes are stored in another order of axes, and each update would
# copy all of them to read rows.
ROWS, LANES = 32, 128
# Longest rows that the TPUs' gather unit (SparseCore, v5p and v6e) takes; XLA's compiler ended with an abort for 6,528.
ROW_BYTES = 6144


def _tile_counts(sizes: np.ndarray, tile_px: int, window_px: int, crop_px: int) -> np.ndarray:
    stride = tile_px - window_px + 1  # each crop's corner lies in exactly one tile
    return -(-(sizes - crop_px + 1) // stride)


def _fitted_tile(sizes: np.ndarray, tile_px: int, crop_px: int, margin_px: int) -> int:
    """Returns the side of the tiles: `tile_px`, at most that of the largest padded image, at least that of a window."""
    return tile_side(min(tile_px, int(sizes.max()) + 2 * margin_px), crop_px + 2 * margin_px)


def tile_side(tile_px: int, window_px: int) -> int:
    """Returns the larger of both, rounded up to a multiple of `ROWS`."""
    return -(-max(tile_px, window_px) // ROWS) * ROWS


def tile_shape(side: int, channels: int) -> tuple[int, int]:
    """Returns the shape of a tile with its pixels' channels side by side: rows, and columns for a multiple of `LANES`.

    Columns are added where they are fewer than `side`, so that the number of channels is that of columns // rows.
    """
    width = side * channels
    added = -width % LANES
    return side, width + (added if added < side else 0)


def store_bytes(sizes: np.ndarray, *, crop_px: int, margin_px: int, tile_px: int, channels: int = 3) -> int:
    """Returns the size in bytes of the tiles that `build_store` returns."""
    tile = _fitted_tile(sizes, tile_px, crop_px, margin_px)
    counts = _tile_counts(sizes, tile, crop_px + 2 * margin_px, crop_px)
    return int(counts.prod(axis=1).sum()) * math.prod(tile_shape(tile, channels))


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
      tile_px: side of the tiles; it is rounded up to a multiple of `ROWS`.
      channels: 3, or those of packed pairs.
      part: the part of the images that is decoded.
      parts: their number. One after another they are the tiles to which "first_tile" points.
      multiple: the tiles of a part are filled up to a multiple of this number.

    Returns:
      "tiles" `[M, T, T * channels]`, or wider, see `tile_shape`, or those of the part; for each image "first_tile"
      `[N]`, "columns" (of tiles) `[N]` and "sizes" `[N, 2]`.
    """
    window = crop_px + 2 * margin_px
    tile_px = _fitted_tile(sizes, tile_px, crop_px, margin_px)
    counts = _tile_counts(sizes, tile_px, window, crop_px)
    owner, first, rows_of_part = _places(counts.prod(axis=1), parts, multiple)
    begin = part * rows_of_part
    tiles = np.zeros((rows_of_part, *tile_shape(tile_px, channels)), images[0].dtype)
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
    stride = store["tiles"].shape[1] - window + 1
    sizes, first_tile, columns = (store[name][chosen] for name in ("sizes", "first_tile", "columns"))
    if min_contrast:
        corners = sampling.candidate_corners(keys, sizes, crop_px)
        first_tile, columns = first_tile[:, None], columns[:, None]
    else:
        corners = sampling.choose_corners(keys, sizes, crop_px)
    tile = first_tile + corners[..., 0] // stride * columns + corners[..., 1] // stride
    windows = _cut(jnp.asarray(store["tiles"]), tile.ravel(), (corners % stride).reshape(-1, 2), window)
    if min_contrast:
        windows = windows.reshape(*tile.shape, *windows.shape[1:])
        windows = windows[jnp.arange(len(windows)), sampling.choose_candidate(windows, min_contrast)]
    # The rest of the update is compiled as for the source `stream`, so that both give the same bits.
    return jax.lax.optimization_barrier(windows)


def _cut(tiles: jax.Array, tile: jax.Array, corner: jax.Array, window: int) -> jax.Array:
    """Returns windows `[N, W, W, channels]` from `tiles`, given the number of each one's tile and its corner in it."""
    rows = functools.partial(_cut_rows, window)
    if tiles.shape[2] * tiles.dtype.itemsize <= ROW_BYTES:
        return rows(tiles, tile, corner)
    return jax.lax.platform_dependent(
        tiles, tile, corner, tpu=functools.partial(_cut_whole_tiles, window), default=rows
    )


def _cut_rows(window: int, tiles: jax.Array, tile: jax.Array, corner: jax.Array) -> jax.Array:
    """Gathers rows, then cuts columns from them.

    A slice of the tiles in both directions makes XLA's TPU backend copy all tiles once for each crop. The reshape here
    copies nothing, because of `tile_shape`.
    """
    side, width = tiles.shape[1:]
    rows = tiles.reshape(-1, width)

    def cut(tile, corner):
        found = rows[tile * side + corner[0] + jnp.arange(window)]
        return _cut_columns(found, corner[1], window, width // side)

    return jax.vmap(cut)(tile, corner)


def _cut_columns(rows: jax.Array, column: jax.Array, window: int, channels: int) -> jax.Array:
    cut = jax.lax.dynamic_slice_in_dim(rows, column * channels, window * channels, axis=1)
    return cut.reshape(window, window, channels)


def _cut_whole_tiles(window: int, tiles: jax.Array, tile: jax.Array, corner: jax.Array) -> jax.Array:
    """Reads one whole tile after the other, each device those of its own samples."""
    channels = tiles.shape[2] // tiles.shape[1]

    def cut_all(tiles, tile, corner):
        def cut(tile, corner):
            found = jax.lax.optimization_barrier(jax.lax.dynamic_index_in_dim(tiles, tile, keepdims=False))
            return _cut_columns(jax.lax.dynamic_slice_in_dim(found, corner[0], window), corner[1], window, channels)

        return jax.lax.map(lambda place: cut(*place), (tile, corner))

    mesh = devices.batch_mesh.get()
    if mesh is None or mesh.size == 1 or len(tile) % mesh.size:
        return cut_all(tiles, tile, corner)
    split, whole = PartitionSpec(devices.AXIS), PartitionSpec()
    mapped = jax.shard_map(cut_all, mesh=mesh, in_specs=(whole, split, split), out_specs=split, check_vma=False)
    return mapped(tiles, tile, corner)
