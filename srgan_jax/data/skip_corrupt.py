"""`ReadableImages`, which skips the corrupt images of a data set."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from srgan_jax.data.builder import DatasetError
from srgan_jax.data.images import Images


class ReadableImages:
    """Images in which each corrupt image is replaced by the next readable one; the choice is deterministic.

    Attributes:
      corrupt: index of each image replaced so far, and the reason.
    """

    def __init__(self, images: Images, report: Callable[[str], object], min_side_px: int = 1):
        """Wraps `images`.

        Args:
          images: `[H, W, C]` uint8 each.
          report: called once per replaced image, with a line that states its name, the reason and the count so far.
          min_side_px: images with a shorter side are replaced too.
        """
        self._images, self._report, self._min_side_px = images, report, min_side_px
        self._lock = threading.Lock()
        self.corrupt: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._first_readable(index, self._images.__getitem__, lambda image: image.shape[:2])

    def size(self, index: int) -> tuple[int, int]:
        """Returns the height and width, without decoding; of an image not yet known to be corrupt, as in its header."""
        return self._first_readable(index, self._images.size, lambda size: size)

    def name(self, index: int) -> str:
        """Returns the name in the data set; for a replaced image, its own name."""
        return self._images.name(index)

    def _first_readable(self, index: int, read: Callable[[int], Any], size_of: Callable[[Any], tuple]) -> Any:
        for place in range(index, index + len(self)):
            place %= len(self)
            if place in self.corrupt:
                continue
            try:
                found = read(place)
            except Exception as error:  # decoders and record readers raise nearly everything on corrupt data
                self._mark_corrupt(place, (str(error).strip() or type(error).__name__).splitlines()[0])
                continue
            height, width = size_of(found)
            if min(height, width) >= self._min_side_px:
                return found
            self._mark_corrupt(place, f"{width} x {height} px, smaller than config.data.crop_px={self._min_side_px}")
        reason = next(iter(self.corrupt.values()))
        raise DatasetError(f"none of the {len(self)} images can be used; the first: {reason}")

    def _mark_corrupt(self, index: int, reason: str) -> None:
        with self._lock:
            if index in self.corrupt:
                return
            self.corrupt[index] = reason
            count = len(self.corrupt)
        self._report(f"WARNING: image {self.name(index)} can't be used ({reason}); the next image replaces it, "
                  f"{count} of {len(self)} replaced so far")  # fmt: skip
