"""`Picture`: the contents of an image file."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Picture:
    """The frames and metadata of an image file, with its EXIF orientation applied.

    Attributes:
      frames: `[H, W, C]` each, uint8 or uint16; C is 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha). Colours are
        not premultiplied by alpha. Animations and multi-page files have several frames, other images one.
      icc: bytes of the ICC colour profile.
      exif: bytes of the EXIF as Pillow writes it, without the orientation.
      dpi: horizontal and vertical resolution, dots per inch.
      durations_ms: durations of the frames of an animation; empty for still images and pages.
      loop: number of repetitions of an animation, 0 for infinitely many; None if the file doesn't contain it.
      notes: a message for each loss in reading.
    """

    frames: tuple[np.ndarray, ...]
    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    durations_ms: tuple[int, ...] = ()
    loop: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(H, W, C)` of the first frame."""
        return self.frames[0].shape
