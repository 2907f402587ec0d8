"""Upscaling images of any size in tiles of one shape, with the result of upscaling the whole image.

Tiles overlap by a halo, the radius of the generator's receptive field in LR pixels. At the borders of an image tiles
are shifted inwards, so that they end at the border and convolutions pad zeros there, as for the whole image. An image
smaller than a tile lies in its top left corner; a mask marks the valid pixels.
"""

import collections
import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax.inference import channels
from srgan_jax.inference.checks import NonFiniteError, check_is_array, checked_image
from srgan_jax.inference.tile_grid import Span, choose_tile, halo_px, max_area, period_px, smallest_tile, spans
from srgan_jax.models import GENERATORS, channels_of
from srgan_jax.runtime import devices
from srgan_jax.runtime.errors import UserError
from srgan_jax.runtime.programs import KeptProgram
from srgan_jax.weights import Weights, make_weights


@jax.jit
def upscale_tiles(params: Weights, tiles: jax.Array, sizes: jax.Array) -> jax.Array:
    """Returns SR of `tiles [N, H, W, 3]` in [0, 1]; the top left `sizes [N, 2]`, height and width, are valid.

    Values that aren't finite are NaN.
    """
    rows = jnp.arange(tiles.shape[1]) < sizes[:, :1]
    columns = jnp.arange(tiles.shape[2]) < sizes[:, 1:]
    mask = (rows[:, :, None] & columns[:, None, :])[..., None].astype(jnp.float32)
    sr = params.module().apply(params.variables, tiles, mask=mask)
    return jnp.where(jnp.isfinite(sr), jnp.clip(sr, 0.0, 1.0), jnp.nan)


_kept_upscale_tiles = KeptProgram(
    upscale_tiles, lambda params, *_: GENERATORS.is_of_package(params.architecture["name"])
)


class Tiler:
    """Upscales images of any size in tiles of one shape: one compilation, batches of tiles on all local devices."""

    def __init__(
        self,
        params: Weights,
        tile_px: tuple[int, int],
        *,
        report: Callable[[str], None] = lambda line: None,
        run: Callable[[Weights, jax.Array, jax.Array], jax.Array] = _kept_upscale_tiles,
    ):
        """Replicates the weights to all local devices.

        Args:
          params: the generator.
          tile_px: height and width in LR pixels, more than two halos.
          report: is called with each message to the user.
          run: computes SR of a batch of tiles.
        """
        self.halo_px, self.exact = halo_px(params.architecture)
        self.period_px = period_px(params.architecture)
        self.tile_px, self.report = tile_px, report
        # Largest difference of two tiles at a seam, of values in [0, 1]; None without seams, or if the halo is exact.
        self.seam_difference: float | None = None
        self._run_tiles = run
        self._mesh = devices.make_mesh(jax.local_devices())
        self._batch = self._mesh.size  # one tile per device
        self._params = devices.replicate(params, self._mesh)
        self.scale, self.name = params.scale, params.architecture["name"]
        self.channels = channels_of(params.architecture)

    def upscale(
        self, images: Iterable[channels.TiledImage]
    ) -> Iterator[tuple[channels.TiledImage, Iterator[np.ndarray]]]:
        """Upscales images one after another; a batch may hold tiles of several images.

        Args:
          images: iterated lazily, slightly ahead of the results.

        Yields:
          Each image with its result as strips `[h, width * scale, C]`, from top to bottom. The last strip of an image
          whose SR isn't finite raises `NonFiniteError`; other images are not affected.
        """
        return self._upscale(images, check=True)

    def _upscale(
        self, images: Iterable[channels.TiledImage], check: bool
    ) -> Iterator[tuple[channels.TiledImage, Iterator[np.ndarray]]]:
        started = collections.deque()

        def tiles():
            for image in images:
                grid = self._grid(image.size)
                started.append((image, grid))
                for rows, columns in itertools.product(*grid):
                    yield image.cut(rows, columns)

        results = self._run_batches(tiles())
        for first in results:
            image, grid = started.popleft()
            strips = self._strips(image, grid, itertools.chain([first], results), check)
            yield image, strips
            with contextlib.suppress(NonFiniteError):
                collections.deque(strips, maxlen=0)  # consume the strips that the caller has not

    def count_tiles(self, size: tuple[int, int]) -> int:
        """Returns the number of tiles of an image of this height and width."""
        return math.prod(map(len, self._grid(size)))

    def _grid(self, size: tuple[int, int]) -> list[list[Span]]:
        """Returns the tiles along both axes of an image of this height and width."""
        return [spans(s, t, self.halo_px, self.period_px) for s, t in zip(size, self.tile_px, strict=True)]

    def seconds_per_tile(self) -> float:
        """Returns the time per tile, measured on the second of two batches; the first compiles."""
        start = 0.0
        for _ in range(2):
            start = time.perf_counter()
            zeros = channels.from_array(np.zeros((*self.tile_px, self.channels), np.float32), self.channels)
            collections.deque(next(self.upscale([zeros] * self._batch))[1], maxlen=0)
        return (time.perf_counter() - start) / self._batch

    def _strips(
        self, image: channels.TiledImage, grid: list[list[Span]], results: Iterator[list[np.ndarray]], check: bool
    ) -> Iterator[np.ndarray]:
        above: list[tuple[Span, np.ndarray] | None] = [None] * len(grid[1])
        finite = True
        for rows in grid[0]:
            strip, left = [], None
            for index, columns in enumerate(grid[1]):
                found = next(results)
                if check and any(np.isnan(part.min()) for part in found):
                    finite, found = False, [np.zeros_like(part) for part in found]
                tile = image.join(found, rows, columns)
                strip.append(self._trim_overlap(tile, rows, columns))
                if not self.exact:
                    self._measure_seam(left, (columns, tile))
                    transposed = (rows, tile.swapaxes(0, 1))
                    self._measure_seam(above[index], transposed)
                    left, above[index] = (columns, tile), transposed
            if not finite and rows is grid[0][-1]:  # the tiles of this image are consumed
                raise NonFiniteError(self.name)
            yield strip[0] if len(strip) == 1 else np.concatenate(strip, axis=1)

    def _trim_overlap(self, tile: np.ndarray, rows: Span, columns: Span) -> np.ndarray:
        top, bottom, left, right = (
            self.scale * at
            for span in (rows, columns)
            for at in (span.keep_start - span.start, span.keep_stop - span.start)
        )
        return tile[top:bottom, left:right]

    def _measure_seam(self, left: tuple[Span, np.ndarray] | None, right: tuple[Span, np.ndarray]) -> None:
        """Updates `seam_difference` with two neighbouring tiles, compared in the two LR columns beside their seam."""
        if left is None:
            return
        seam = right[0].keep_start
        left_columns, right_columns = (
            tile[:, self.scale * (seam - 1 - span.start) : self.scale * (seam + 1 - span.start)]
            for span, tile in (left, right)
        )
        largest = np.iinfo(left_columns.dtype).max if left_columns.dtype.kind == "u" else 1.0
        difference = np.abs(left_columns.astype(np.float64) - right_columns).max() / largest
        self.seam_difference = max(self.seam_difference or 0.0, float(difference))

    def _run_batches(self, groups: Iterable[list[np.ndarray]]) -> Iterator[list[np.ndarray]]:
        """Yields the results of groups of tiles; the next batch is computed while one is fetched."""
        lengths, in_flight, results = collections.deque(), collections.deque(), []

        def flatten():
            for group in groups:
                lengths.append(len(group))
                yield from group

        tiles = flatten()
        while True:
            batch = list(itertools.islice(tiles, self._batch))
            if batch:
                in_flight.append((batch, self.tile_px, self._start_batch(batch)))
            while in_flight and (len(in_flight) > 1 or not batch or devices.must_block()):
                results += self._fetch_batch(*in_flight.popleft())
            while lengths and len(results) >= lengths[0]:
                count = lengths.popleft()
                yield results[:count]
                results = results[count:]
            if not batch:
                return

    def _start_batch(self, batch: list[np.ndarray]) -> jax.Array | None:
        """Dispatches a batch of tiles; returns None when memory ran out."""
        if any(side > limit for tile in batch for side, limit in zip(tile.shape, self.tile_px, strict=False)):
            return None  # these tiles were cut before the tile size was halved
        height, width = self.tile_px
        sizes = np.array([tile.shape[:2] for tile in batch] + [(1, 1)] * (self._batch - len(batch)), np.int32)
        padded = np.zeros((self._batch, height, width, self.channels), np.float32)
        for target, tile in zip(padded, batch, strict=False):
            border = ((0, height - tile.shape[0]), (0, width - tile.shape[1]), (0, 0))
            target[:] = np.pad(tile, border, mode="edge") if any(sum(border, ())) else tile
        try:
            return self._run_tiles(self._params, *devices.shard((padded, sizes), self._mesh, "jit"))
        except jax.errors.JaxRuntimeError as error:
            return self._halve_tile(error, self.tile_px)

    def _fetch_batch(
        self, batch: list[np.ndarray], tile_px: tuple[int, int], results: jax.Array | None
    ) -> list[np.ndarray]:
        """Returns the results of a batch dispatched with tiles of `tile_px`; computes it again if that failed."""
        if results is not None:
            try:
                sr = np.asarray(results)
                sizes = [(self.scale * tile.shape[0], self.scale * tile.shape[1]) for tile in batch]
                return [tile[:height, :width] for tile, (height, width) in zip(sr, sizes, strict=False)]
            except jax.errors.JaxRuntimeError as error:
                self._halve_tile(error, tile_px)
        # Memory ran out: upscale each tile as an image of its own, with the smaller tiles.
        images = [channels.TiledImage(tile.shape[:2], _cut_from(tile), _first_result) for tile in batch]
        return [np.concatenate(list(strips)) for _, strips in self._upscale(images, check=False)]

    def _halve_tile(self, error: Exception, tile_px: tuple[int, int]) -> None:
        """Halves the tile size after an out-of-memory error, unless an earlier batch has; raises any other error.

        Raises:
          UserError: the tile has the smallest size already.
        """
        if "RESOURCE_EXHAUSTED" not in str(error) and "out of memory" not in str(error).lower():
            raise error
        if tile_px != self.tile_px:
            return
        smallest = smallest_tile(self.halo_px, self.period_px)
        height, width = (min(side, max(smallest, side // 2)) for side in self.tile_px)
        smaller = (height, width)
        if smaller == self.tile_px:
            raise UserError(
                f"not enough memory on the device for tiles of {self.tile_px[0]} x {self.tile_px[1]}, the smallest "
                "that the receptive field of this generator allows; use a smaller generator or another device"
            ) from None
        self.report("out of memory with tiles of {} x {}: continuing with {} x {}".format(*self.tile_px, *smaller))
        self.tile_px = smaller


def _first_result(results: list[np.ndarray], rows: Span, columns: Span) -> np.ndarray:
    return results[0]


def _cut_from(image: np.ndarray) -> Callable[[Span, Span], list[np.ndarray]]:
    """Returns the `TiledImage.cut` of `image [H, W, 3]` float32 in [0, 1]."""
    return lambda rows, columns: [image[rows.start : rows.stop, columns.start : columns.stop]]


def upscale_tiled(
    params: Weights | Mapping[str, Any],
    image: np.ndarray,
    *,
    architecture: Mapping[str, Any] | None = None,
    tile_px: tuple[int, int] | None = None,
    self_ensemble: bool = False,
) -> np.ndarray:
    """Upscales an image of any size tile by tile, in bounded device memory.

    The result equals that of `upscale` up to rounding (1e-5 in floats, one step in uint8) if the radius of the
    generator's receptive field is at most 64 LR pixels. Other generators get a halo of 64, and differ slightly:
    `Tiler.seam_difference` is the difference of neighbouring tiles at their seams.

    Args:
      params: from `srgan_jax.load`, or a Flax variables dict of a generator.
      image: `[H, W, 3]` RGB; uint8, or float in [0, 1].
      architecture: of a variables dict if it isn't the paper's, see `weights.make_weights`.
      tile_px: height and width of a tile in LR pixels, halo included; by default from image size and free memory.
      self_ensemble: average the results of the eight flips and rotations.

    Returns:
      `[H * scale, W * scale, 3]` in the dtype of `image`; floats are clipped to [0, 1].

    Raises:
      ValueError: `image` has another shape, dtype or range, or `tile_px` is two halos or less.
    """
    check_is_array(image)
    params = params if isinstance(params, Weights) else make_weights(params, architecture)
    image = checked_image(image, np.asarray, axes=(3,), channels=channels_of(params.architecture))
    halo, period = halo_px(params.architecture)[0], period_px(params.architecture)
    tile_px = tile_px or choose_tile([image.shape[:2]], halo, max_area(params), self_ensemble, period)
    if any(tile < min(size, 2 * halo + period) for size, tile in zip(image.shape, tile_px, strict=False)):
        raise ValueError(
            f"tile_px={tile_px}: expected tiles of {2 * halo + period} px or more; this generator has a halo of "
            f"{halo} px"
        )
    if self_ensemble and tile_px[0] != tile_px[1]:
        raise ValueError(f"tile_px={tile_px}: expected a square tile, because self_ensemble rotates tiles")
    tiled = channels.from_array(image, channels_of(params.architecture))
    tiled = channels.self_ensemble(tiled) if self_ensemble else tiled
    ((_, strips),) = ((tiled, list(strips)) for tiled, strips in Tiler(params, tile_px).upscale([tiled]))
    return np.concatenate(strips)
