"""The grid of tiles that covers an image: halo from the receptive field, tile positions, tile size from free memory."""

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from srgan_jax.models import GENERATORS, Network, build, channels_of
from srgan_jax.runtime import devices
from srgan_jax.runtime.disk_cache import cached_on_disk
from srgan_jax.runtime.trees import FrozenMapping
from srgan_jax.weights import Weights

T = TypeVar("T")
MAX_HALO_PX = 64  # LR pixels; a generator with a larger receptive field gets this halo, and seams that are measured
DEFAULT_PERIOD_PX = 2  # LR pixels; see `period_px`
TILE_MULTIPLE_PX = 16  # tile sides are multiples of it
MAX_CPU_BYTES = 2 << 30  # of activations; on a CPU larger tiles are hardly faster
MAX_TILE_PX = 1024**2  # area


def halo_px(architecture: Mapping[str, Any]) -> tuple[int, bool]:
    """Returns the halo that a generator needs: the radius of its receptive field, in LR pixels.

    The radius is measured: a NaN in the input makes NaN exactly those outputs that depend on it.

    Args:
      architecture: of a `Weights`; kernels are square, so one axis is measured for both.

    Returns:
      The radius, at most `MAX_HALO_PX`, and whether it is exact; False where the receptive field is larger.
    """
    return _halo_px(FrozenMapping(architecture))


@functools.lru_cache(maxsize=64)
def _halo_px(architecture: FrozenMapping) -> tuple[int, bool]:
    channels = channels_of(architecture)
    radius, exact = _cached("halo", architecture, lambda module: _measure_halo(module, channels))
    return radius, exact


def _cached(name: str, architecture: Mapping[str, Any], compute: Callable[[Network], T]) -> T:
    """Returns `compute(module)` for the module of an architecture, which is only made where the value isn't known."""
    of_package = GENERATORS.is_of_package(architecture["name"])
    return cached_on_disk(name, architecture, of_package, lambda: compute(build(GENERATORS, architecture)))


def _measure_halo(module: Network, channels: int) -> tuple[int, bool]:
    if getattr(module, "least_radius_px", 0) > MAX_HALO_PX:
        return MAX_HALO_PX, False
    centre = MAX_HALO_PX + 2
    period = getattr(module, "period_px", DEFAULT_PERIOD_PX)
    strip = np.zeros((period, 1, 2 * centre + period, channels), np.float32)
    for index in range(period):  # all positions relative to a stride or window
        strip[index, :, centre + index] = np.nan
    shapes = jax.eval_shape(module.init, jax.eval_shape(lambda: jax.random.key(0)), strip)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    sr = np.asarray(np.isnan(np.asarray(jax.jit(module.apply)(zeros, strip))).any(axis=(1, 3)))
    affected = np.asarray(sr.reshape(period, -1, sr.shape[1] // strip.shape[2]).any(axis=-1))
    radius = max(np.abs(np.flatnonzero(row) - centre - index).max() for index, row in enumerate(affected))
    return min(int(radius), MAX_HALO_PX), bool(radius <= MAX_HALO_PX)


class Span(NamedTuple):
    """A tile along one axis, in LR pixels: the part that it reads, and the part of its result that is kept."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def period_px(architecture: Mapping[str, Any]) -> int:
    """Returns the period of a generator, `period_px` of its module, 2 by default: see `models.protocols.Generator`."""
    return _cached("period", architecture, lambda module: getattr(module, "period_px", DEFAULT_PERIOD_PX))


def spans(size: int, tile: int, halo: int, period: int = DEFAULT_PERIOD_PX) -> list[Span]:
    """Returns tiles of `tile` pixels that cover `size` pixels; neighbours overlap by at least two halos.

    All tiles start at multiples of `period`, so that a network with strides or windows divides the pixels of each in
    the same way. The last tile may therefore be up to `period - 1` pixels shorter than the others.
    """
    if size <= tile:
        return [Span(0, size, 0, size)]
    last = math.ceil((size - tile) / period) * period
    count = math.ceil(last / ((tile - 2 * halo) // period * period)) + 1
    step = math.ceil(last / (count - 1) / period) * period
    starts = [min(index * step, last) for index in range(count)]
    seams = [(a + tile + b) // 2 for a, b in itertools.pairwise(starts)]
    return [
        Span(start, min(start + tile, size), low, high)
        for start, low, high in zip(starts, [0, *seams], [*seams, size], strict=True)
    ]


def choose_tile(
    sizes: Sequence[tuple[int, int]], halo: int, max_area: int, square: bool = False, period: int = DEFAULT_PERIOD_PX
) -> tuple[int, int]:
    """Returns the tile size that computes the fewest pixels, halos included, over images of these sizes.

    Args:
      sizes: heights and widths, LR pixels.
      halo: from `halo_px`.
      max_area: largest area of a tile, LR pixels; exceeded only where two halos need a larger tile.
      square: only square tiles (self-ensemble rotates them).
      period: from `period_px`.

    Returns:
      Height and width, multiples of 16.
    """
    smallest = smallest_tile(halo, period)
    largest = max(smallest, min(max_area // smallest, -(-max(map(max, sizes)) // TILE_MULTIPLE_PX) * TILE_MULTIPLE_PX))
    sides = np.arange(TILE_MULTIPLE_PX, largest + 1, TILE_MULTIPLE_PX)
    heights, widths = np.array(sorted(set(sizes))).T

    def tiles(lengths):  # [images, sides]; a side of two halos or less can only hold a whole image
        steps = np.maximum((sides - 2 * halo) // period * period, 1e-9)
        return np.ceil(np.maximum(lengths[:, None] - sides, 0) / steps) + 1

    cost = np.einsum("ki,kj->ij", tiles(heights), tiles(widths)) * np.outer(sides, sides)
    allowed = (np.outer(sides, sides) <= max_area) & (not square or np.eye(len(sides), dtype=bool))
    if not (allowed & (cost < 1e12)).any():
        return smallest, smallest
    cost = np.where(allowed, cost, np.inf)
    good = np.argwhere(cost <= 1.02 * cost.min())  # the smallest of the tiles that cost about the same
    height, width = good[np.argmin([sides[i] * sides[j] for i, j in good])]
    return int(sides[height]), int(sides[width])


def bytes_per_px(params: Weights) -> float:
    """Returns an estimate of bytes per LR pixel of a tile: three times its largest activation, twice its result."""
    channels = channels_of(params.architecture)

    def compute(module: Network) -> float:
        lr = jax.ShapeDtypeStruct((1, 32, 32, channels), np.float32)
        apply = functools.partial(module.apply, capture_intermediates=True, mutable=["intermediates"])
        layers = jax.tree.leaves(jax.eval_shape(apply, params.variables, lr))
        largest = max(leaf.size * leaf.dtype.itemsize for leaf in layers) / 32**2
        return 3 * largest + 2 * 4 * channels * params.scale**2

    return _cached("bytes", params.architecture, compute)


def max_area(params: Weights, device_bytes: float = 0) -> int:
    """Returns the largest tile area, in LR pixels, that the free memory of the device, or host on a CPU, allows.

    `device_bytes` is the memory of a device that isn't there.
    """
    free = device_bytes or devices.free_bytes()
    budget = 0.5 * free if device_bytes or devices.memory_bytes() else min(0.25 * free, MAX_CPU_BYTES)
    return min(MAX_TILE_PX, int(budget / bytes_per_px(params)))


def smallest_tile(halo: int, period: int = DEFAULT_PERIOD_PX) -> int:
    """Returns the smallest valid side of a tile: the first multiple of 16 that holds two halos and a period."""
    return -(-(2 * halo + period) // TILE_MULTIPLE_PX) * TILE_MULTIPLE_PX
