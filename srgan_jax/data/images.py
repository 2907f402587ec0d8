"""What a data set of images can be asked: the more, the less has been done with it since it was prepared."""

from typing import Protocol

import numpy as np


class ImageArrays(Protocol):
    """Images by their index, `[H, W, C]` uint8 each, decoded when asked for; a list of arrays is one, too."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray: ...


class Images(ImageArrays, Protocol):
    """Images that also say what they are without being decoded."""

    def size(self, index: int) -> tuple[int, int]:
        """Height and width, of an image at the size of LR where it is a packed pair."""
        ...

    def name(self, index: int) -> str:
        """What the user knows the image by."""
        ...


class PreparedImages(Images, Protocol):
    """Images as a prepared data set has them, which can be told from each other by what they show."""

    def digest(self, index: int) -> str:
        """Equal images have equal ones, wherever they stand."""
        ...
