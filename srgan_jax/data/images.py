"""Protocols of image data sets: `ImageArrays`, `Images` (adds size and name), `PreparedImages` (adds a digest)."""

from typing import Protocol

import numpy as np


class ImageArrays(Protocol):
    """A sequence of images `[H, W, C]` uint8 that are decoded when indexed; a list of arrays fits too."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray: ...


class Images(ImageArrays, Protocol):
    """Images whose size and name are known without decoding."""

    def size(self, index: int) -> tuple[int, int]:
        """Returns the height and width; for a packed pair, those of LR."""
        ...

    def name(self, index: int) -> str:
        """Returns the name of the image, for messages."""
        ...


class PreparedImages(Images, Protocol):
    """Images of a prepared data set, with a digest of their content."""

    def digest(self, index: int) -> str:
        """Returns a digest of the content: equal for equal images, whatever their index."""
        ...
