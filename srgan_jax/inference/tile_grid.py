"""Where the tiles of a picture lie: how far a generator looks, how tiles cover a picture, and how large they may be."""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.core import FrozenDict, freeze

from srgan_jax.models import GENERATORS, build
from srgan_jax.runtime import devices
from srgan_jax.weights import Weights

MAX_HALO_PX = 64  # LR pixels; networks that look farther get this halo, and a measured difference at the seams
TILE_MULTIPLE_PX = 16  # tiles have multiples of it as sides
MAX_CPU_BYTES = 2 << 30  # of activations on a CPU: larger tiles are hardly quicker there
MAX_TILE_PX = 1024**2  # area


def halo_px(architecture: Mapping[str, Any]) -> tuple[int, bool]:
    """How far a generator looks, from its architecture: a NaN spreads exactly as far as the network reaches.

    Args:
      architecture: of a `Weights`; its kernels are square, so one axis stands for both.

    Returns:
      LR pixels, and whether they are all; False where it reaches beyond `MAX_HALO_PX`, which is then returned.
    """
    return _halo_px(freeze(dict(architecture)))


@functools.lru_cache(maxsize=64)
def _halo_px(architecture: FrozenDict) -> tuple[int, bool]:
    module = build(GENERATORS, architecture)
    centre = MAX_HALO_PX + 2
    strip = np.zeros((2, 1, 2 * centre + 2, 3), np.float32)
    strip[0, :, centre] = strip[1, :, centre + 1] = np.nan  # both phases of a stride of 2
    shapes = jax.eval_shape(module.init, jax.eval_shape(lambda: jax.random.key(0)), strip)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    sr = np.asarray(np.isnan(np.asarray(jax.jit(module.apply)(zeros, strip))).any(axis=(1, 3)))
    affected = np.asarray(sr.reshape(2, -1, sr.shape[1] // strip.shape[2]).any(axis=-1))
    radius = max(np.abs(np.flatnonzero(row) - centre - index).max() for index, row in enumerate(affected))
    return min(int(radius), MAX_HALO_PX), bool(radius <= MAX_HALO_PX)


class Span(NamedTuple):
    """A tile along one axis, in LR pixels: what it reads, and the part of its result that is kept."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def spans(size: int, tile: int, halo: int) -> list[Span]:
    """Covers `size` pixels by tiles of `tile`, neighbours overlapping by at least two halos.

    All begin at even pixels: a network that halves its input samples the same pixels in each. The last may so be a
    pixel shorter than the others.
    """
    if size <= tile:
        return [Span(0, size, 0, size)]
    last = math.ceil((size - tile) / 2) * 2
    count = math.ceil(last / ((tile - 2 * halo) // 2 * 2)) + 1
    step = math.ceil(last / (count - 1) / 2) * 2
    starts = [min(index * step, last) for index in range(count)]
    seams = [(a + tile + b) // 2 for a, b in itertools.pairwise(starts)]
    return [
        Span(start, min(start + tile, size), low, high)
        for start, low, high in zip(starts, [0, *seams], [*seams, size], strict=True)
    ]


def choose_tile(sizes: Sequence[tuple[int, int]], halo: int, max_area: int, square: bool = False) -> tuple[int, int]:
    """The tile that costs least over pictures of these sizes.

    Args:
      sizes: heights and widths, LR pixels.
      halo: from `halo_px`.
      max_area: LR pixels that a tile may have; exceeded only where two halos leave no smaller tile.
      square: only square tiles (self-ensemble turns them).

    Returns:
      Height and width, multiples of 16.
    """
    smallest = smallest_tile(halo)
    largest = max(smallest, min(max_area // smallest, -(-max(map(max, sizes)) // TILE_MULTIPLE_PX) * TILE_MULTIPLE_PX))
    sides = np.arange(TILE_MULTIPLE_PX, largest + 1, TILE_MULTIPLE_PX)
    heights, widths = np.array(sorted(set(sizes))).T

    def tiles(lengths):  # [pictures, sides]; a side of two halos or less can only hold a whole picture
        steps = np.maximum(sides - 2 * halo, 1e-9)
        return np.ceil(np.maximum(lengths[:, None] - sides, 0) / steps) + 1

    cost = np.einsum("ki,kj->ij", tiles(heights), tiles(widths)) * np.outer(sides, sides)
    allowed = (np.outer(sides, sides) <= max_area) & (not square or np.eye(len(sides), dtype=bool))
    if not (allowed & (cost < 1e12)).any():
        return smallest, smallest
    cost = np.where(allowed, cost, np.inf)
    good = np.argwhere(cost <= 1.02 * cost.min())  # of tiles that cost about the same, the smallest
    height, width = good[np.argmin([sides[i] * sides[j] for i, j in good])]
    return int(sides[height]), int(sides[width])


def bytes_per_px(params: Weights) -> float:
    """Memory that a tile takes for each LR pixel: the largest of its activations three times, the result twice."""
    lr = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    apply = functools.partial(params.module().apply, capture_intermediates=True, mutable=["intermediates"])
    layers = jax.tree.leaves(jax.eval_shape(apply, params.variables, lr))
    largest = max(leaf.size * leaf.dtype.itemsize for leaf in layers) / 32**2
    return 3 * largest + 2 * 4 * 3 * params.scale**2


def max_area(params: Weights) -> int:
    """LR pixels of the largest tile that the free memory of a device, or of the host, allows."""
    free = devices.free_bytes()
    budget = 0.5 * free if devices.memory_bytes() else min(0.25 * free, MAX_CPU_BYTES)
    return min(MAX_TILE_PX, int(budget / bytes_per_px(params)))


def smallest_tile(halo: int) -> int:
    """The side of the smallest tile that holds more than its halos."""
    return -(-(2 * halo + 2) // TILE_MULTIPLE_PX) * TILE_MULTIPLE_PX
