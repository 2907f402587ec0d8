"""Upscaling by several generators, one after another: for instance a cleanup of scale 1, then one of scale 4."""

import collections
import functools
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from srgan_jax.inference.channels import TiledImage, from_array, self_ensemble
from srgan_jax.inference.checks import NonFiniteError
from srgan_jax.inference.tiler import Tiler

PER_STEP = 257  # uint16 steps in a step of uint8: 65535 / 255


class Chain:
    """Upscales images by one generator after another, each in tiles of its own.

    Between two generators an image has 16 bits per channel and is clipped to [0, 1].

    Attributes:
      tilers: one for each generator.
      scale: SR pixels per LR pixel of all together.
    """

    def __init__(self, tilers: Sequence[Tiler], *, ensemble: bool = False):
        """Takes the tilers in order.

        Args:
          tilers: at least one.
          ensemble: average the results of the eight flips and rotations, for each generator.
        """
        self.tilers, self.scale = tilers, math.prod(tiler.scale for tiler in tilers)
        self._orient = self_ensemble if ensemble else lambda image: image
        self._passes = 8 if ensemble else 1

    def upscale(self, frames: Iterable[np.ndarray]) -> Iterator[tuple[TiledImage, Iterator[np.ndarray]]]:
        """Upscales frames `[H, W, C]` uint8 or uint16, iterated lazily; see `Tiler.upscale` for what is yielded."""
        if len(self.tilers) == 1:
            return self.tilers[0].upscale(self._orient(from_array(frame, self.tilers[0].channels)) for frame in frames)
        return self._upscale_by_several(frames)

    def _upscale_by_several(self, frames: Iterable[np.ndarray]) -> Iterator[tuple[TiledImage, Iterator[np.ndarray]]]:
        dtypes: collections.deque[np.dtype] = collections.deque()

        def as_16_bits() -> Iterator[np.ndarray]:
            for frame in frames:
                dtypes.append(frame.dtype)
                yield frame * np.uint16(PER_STEP) if frame.dtype == np.uint8 else frame

        images: Iterable[np.ndarray] = as_16_bits()
        failed: dict[int, NonFiniteError] = {}  # by the number of the frame
        for tiler in self.tilers[:-1]:
            results = tiler.upscale(self._orient(from_array(image, tiler.channels)) for image in images)
            images = _whole(results, tiler.scale, failed)
        last = self.tilers[-1]
        results = last.upscale(self._orient(from_array(image, last.channels)) for image in images)
        for index, (image, strips) in enumerate(results):
            if index in failed:
                strips = _raising(failed[index])
            yield image, map(functools.partial(_as_dtype, dtype=dtypes.popleft()), strips)

    def seconds(self, size: tuple[int, int]) -> float:
        """Returns the estimated time for an image of this height and width."""
        total, factor = 0.0, 1
        for tiler, seconds in zip(self.tilers, self._seconds_per_tile, strict=True):
            height, width = (side * factor for side in size)
            total, factor = total + tiler.count_tiles((height, width)) * self._passes * seconds, factor * tiler.scale
        return total

    @functools.cached_property
    def _seconds_per_tile(self) -> list[float]:
        return [tiler.seconds_per_tile() for tiler in self.tilers]


def _whole(
    results: Iterable[tuple[TiledImage, Iterator[np.ndarray]]], scale: int, failed: dict[int, NonFiniteError]
) -> Iterator[np.ndarray]:
    """Yields the results of a generator as the next one's input; a black image for one that failed."""
    for index, (image, strips) in enumerate(results):
        try:
            yield np.concatenate(list(strips))
        except NonFiniteError as error:
            failed.setdefault(index, error)
            yield np.zeros((image.size[0] * scale, image.size[1] * scale, 3), np.uint16)


def _raising(error: NonFiniteError) -> Iterator[np.ndarray]:
    raise error
    yield  # makes this function a generator


def _as_dtype(strip: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Returns uint16 as uint8, rounded, or unchanged."""
    return ((strip.astype(np.uint32) + PER_STEP // 2) // PER_STEP).astype(dtype) if dtype == np.uint8 else strip
