"""Pictures of any size in tiles of one shape, equal to the whole picture's result.

A tile is a window of the picture with a halo: as many LR pixels on each inner side as the network looks around. At the
picture's borders windows are shifted inwards, so that they end where the picture ends and the network sees the zeros
that it would see there; a picture smaller than a tile lies in its corner under a validity mask.
"""

import collections
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax.inference import channels
from srgan_jax.inference.checks import checked_image
from srgan_jax.inference.tile_grid import Span, choose_tile, halo_px, max_area, smallest_tile, spans
from srgan_jax.runtime import devices
from srgan_jax.runtime.errors import UserError
from srgan_jax.weights import Weights, make_weights


@jax.jit
def upscale_tiles(params: Weights, tiles: jax.Array, sizes: jax.Array) -> jax.Array:
    """Returns SR of windows `[N, H, W, 3]` in [0, 1], of each of which the top left part of `sizes [N, 2]` counts."""
    rows = jnp.arange(tiles.shape[1]) < sizes[:, :1]
    columns = jnp.arange(tiles.shape[2]) < sizes[:, 1:]
    mask = (rows[:, :, None] & columns[:, None, :])[..., None].astype(jnp.float32)
    return jnp.clip(params.module().apply(params.variables, tiles, mask=mask), 0.0, 1.0)


class Tiler:
    """A generator ready for pictures of any size: one compilation, batches of tiles on all local devices."""

    def __init__(
        self,
        params: Weights,
        tile_px: tuple[int, int],
        *,
        report: Callable[[str], None] = lambda line: None,
        run: Callable[[Weights, jax.Array, jax.Array], jax.Array] = upscale_tiles,
    ):
        """Prepares tiles of one shape.

        Args:
          params: the generator.
          tile_px: height and width in LR pixels, more than two halos.
          report: gets lines for the user.
          run: computes a batch of windows.
        """
        self.halo_px, self.exact = halo_px(params.architecture)
        self.tile_px, self.report = tile_px, report
        self.seam_difference = 0.0  # largest seen between two tiles where they meet; of networks beyond MAX_HALO_PX
        self._run_tiles = run
        self._mesh = devices.make_mesh(jax.local_devices())
        self._batch = self._mesh.size  # a tile for each device
        self._params = devices.replicate(params, self._mesh)
        self.scale = params.scale

    def upscale(
        self, images: Iterable[channels.TiledImage]
    ) -> Iterator[tuple[channels.TiledImage, Iterator[np.ndarray]]]:
        """Upscales pictures one after the other; a batch may hold tiles of several.

        Args:
          images: pulled as tiles are needed, a little ahead of the results.

        Yields:
          Each source with its result as strips of rows, `[h, width * scale, C]` from top to bottom.
        """
        started = collections.deque()

        def tiles():
            for image in images:
                grid = [spans(size, tile, self.halo_px) for size, tile in zip(image.size, self.tile_px, strict=True)]
                started.append((image, grid))
                for rows, columns in itertools.product(*grid):
                    yield image.cut(rows, columns)

        results = self._run_batches(tiles())
        for first in results:
            image, grid = started.popleft()
            strips = self._strips(image, grid, itertools.chain([first], results))
            yield image, strips
            collections.deque(strips, maxlen=0)  # what the caller left

    def count_tiles(self, size: tuple[int, int]) -> int:
        """How many tiles a picture of this height and width takes."""
        return math.prod(len(spans(s, t, self.halo_px)) for s, t in zip(size, self.tile_px, strict=True))

    def seconds_per_tile(self) -> float:
        """Measured on the second of two batches: the first compiles."""
        start = 0.0
        for _ in range(2):
            start = time.perf_counter()
            zeros = channels.from_array(np.zeros((*self.tile_px, 3), np.float32))
            collections.deque(next(self.upscale([zeros] * self._batch))[1], maxlen=0)
        return (time.perf_counter() - start) / self._batch

    def _strips(self, image: channels.TiledImage, grid: list[list[Span]], results: Iterator[list[np.ndarray]]):
        above: list[tuple[Span, np.ndarray] | None] = [None] * len(grid[1])
        for rows in grid[0]:
            strip, left = [], None
            for index, columns in enumerate(grid[1]):
                tile = image.join(next(results), rows, columns)
                strip.append(self._trim_overlap(tile, rows, columns))
                if not self.exact:
                    self._measure_seam(left, (columns, tile))
                    transposed = (rows, tile.swapaxes(0, 1))
                    self._measure_seam(above[index], transposed)
                    left, above[index] = (columns, tile), transposed
            yield strip[0] if len(strip) == 1 else np.concatenate(strip, axis=1)

    def _trim_overlap(self, tile: np.ndarray, rows: Span, columns: Span) -> np.ndarray:
        top, bottom, left, right = (
            self.scale * at
            for span in (rows, columns)
            for at in (span.keep_start - span.start, span.keep_stop - span.start)
        )
        return tile[top:bottom, left:right]

    def _measure_seam(self, left: tuple[Span, np.ndarray] | None, right: tuple[Span, np.ndarray]) -> None:
        """Notes by how much two neighbouring tiles differ in the two LR columns beside their seam."""
        if left is None:
            return
        seam = right[0].keep_start
        left_columns, right_columns = (
            tile[:, self.scale * (seam - 1 - span.start) : self.scale * (seam + 1 - span.start)]
            for span, tile in (left, right)
        )
        largest = np.iinfo(left_columns.dtype).max if left_columns.dtype.kind == "u" else 1.0
        difference = np.abs(left_columns.astype(np.float64) - right_columns).max() / largest
        self.seam_difference = max(self.seam_difference, float(difference))

    def _run_batches(self, groups: Iterable[list[np.ndarray]]) -> Iterator[list[np.ndarray]]:
        """Windows in groups to results in the same groups; the next batch is computed while one is fetched."""
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
        """Begins to compute a batch of windows; None where the memory doesn't suffice."""
        if any(side > limit for tile in batch for side, limit in zip(tile.shape, self.tile_px, strict=False)):
            return None  # cut before the tile was made smaller
        height, width = self.tile_px
        sizes = np.array([tile.shape[:2] for tile in batch] + [(1, 1)] * (self._batch - len(batch)), np.int32)
        padded = np.zeros((self._batch, height, width, 3), np.float32)
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
        """The results of a batch that was started with tiles of `tile_px`."""
        if results is not None:
            try:
                sr = np.asarray(results)
                sizes = [(self.scale * tile.shape[0], self.scale * tile.shape[1]) for tile in batch]
                return [tile[:height, :width] for tile, (height, width) in zip(sr, sizes, strict=False)]
            except jax.errors.JaxRuntimeError as error:
                self._halve_tile(error, tile_px)
        # A window is a picture, whose tiles may be smaller.
        images = [channels.TiledImage(tile.shape[:2], _cut_from(tile), _first_result) for tile in batch]
        return [np.concatenate(list(strips)) for _, strips in self.upscale(images)]

    def _halve_tile(self, error: Exception, tile_px: tuple[int, int]) -> None:
        """Halves the tile when memory ran out, unless a batch before has done so; raises where it can't be smaller."""
        if "RESOURCE_EXHAUSTED" not in str(error) and "out of memory" not in str(error).lower():
            raise error
        if tile_px != self.tile_px:
            return
        smallest = smallest_tile(self.halo_px)
        height, width = (min(side, max(smallest, side // 2)) for side in self.tile_px)
        smaller = (height, width)
        if smaller == self.tile_px:
            raise UserError(
                f"not enough memory on the device for tiles of {self.tile_px[0]} x {self.tile_px[1]}, the smallest "
                "that this generator allows; use a smaller generator or another device"
            ) from None
        self.report(
            f"out of memory with tiles of {self.tile_px[0]} x {self.tile_px[1]}: going on with "
            f"{smaller[0]} x {smaller[1]}"
        )
        self.tile_px = smaller


def _first_result(results: list[np.ndarray], rows: Span, columns: Span) -> np.ndarray:
    return results[0]


def _cut_from(image: np.ndarray) -> Callable[[Span, Span], list[np.ndarray]]:
    """The `cut` of `[H, W, 3]` float32 in [0, 1]."""
    return lambda rows, columns: [image[rows.start : rows.stop, columns.start : columns.stop]]


def upscale_tiled(
    params: Weights | Mapping[str, Any],
    image: np.ndarray,
    *,
    architecture: Mapping[str, Any] | None = None,
    tile_px: tuple[int, int] | None = None,
    self_ensemble: bool = False,
) -> np.ndarray:
    """Super-resolves a picture of any size in host memory, tile by tile: the result of `upscale` in bounded memory.

    Equal to it but for rounding (1e-5 in floats, one step in uint8) where the generator looks at most 64 LR pixels
    far; others get that halo.

    Args:
      params: from `srgan_jax.load`, or a Flax variables dict of a generator.
      image: `[H, W, 3]` RGB; uint8, or float in [0, 1].
      architecture: for a variables dict whose architecture is not the paper's, see `weights.make_weights`.
      tile_px: height and width of a tile in LR pixels, halo included; by default from the picture and free memory.
      self_ensemble: average the results of the eight flips and rotations.

    Returns:
      `[H * scale, W * scale, 3]` in the dtype of `image`; floats are clipped to [0, 1].

    Raises:
      ValueError: another shape, dtype or range, or a tile of two halos or less.
    """
    image = checked_image(image, np.asarray, axes=(3,))
    params = params if isinstance(params, Weights) else make_weights(params, architecture)
    halo = halo_px(params.architecture)[0]
    tile_px = tile_px or choose_tile([image.shape[:2]], halo, max_area(params), square=self_ensemble)
    if any(tile < min(size, 2 * halo + 2) for size, tile in zip(image.shape, tile_px, strict=False)):
        raise ValueError(
            f"this generator looks {halo} px far: expected tiles of {2 * halo + 2} px or more, got {tile_px}"
        )
    if self_ensemble and tile_px[0] != tile_px[1]:
        raise ValueError(f"self-ensemble turns tiles: expected a square tile, got {tile_px}")
    tiled = channels.from_array(image)
    tiled = channels.self_ensemble(tiled) if self_ensemble else tiled
    ((_, strips),) = ((tiled, list(strips)) for tiled, strips in Tiler(params, tile_px).upscale([tiled]))
    return np.concatenate(strips)
