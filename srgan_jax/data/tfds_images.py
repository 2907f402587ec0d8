"""`TfdsImages`, the images of one feature of a tfds data source."""

import hashlib
import io
from typing import Any

import numpy as np

from srgan_jax import images


class TfdsImages:
    """The images `[H, W, C]` of one image feature of a tfds data source, with these bands."""

    def __init__(self, source: Any, feature: str, bands: images.Bands = images.RGB):
        self._source, self._feature, self._bands = source, feature, bands

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> np.ndarray:
        return images.decode_bands(io.BytesIO(self._source[index][self._feature]), self._bands)

    def size(self, index: int) -> tuple[int, int]:
        """Returns the height and width, without decoding."""
        return images.image_size(io.BytesIO(self._source[index][self._feature]))

    def digest(self, index: int) -> str:
        """Returns the SHA-256 of the encoded image; equal images of a data set have equal digests."""
        return hashlib.sha256(self._source[index][self._feature]).hexdigest()

    def name(self, index: int) -> str:
        """Returns the index, and before it the path in the prepared folder if the data set contains it."""
        try:
            return f"{self._source[index]['path'].decode()} (number {index})"
        except Exception:  # no such feature, or the record is damaged
            return f"number {index}"
