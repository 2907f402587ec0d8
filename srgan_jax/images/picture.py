"""`Picture`: what an image file holds."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Picture:
    """What a picture file holds, turned upright.

    Attributes:
      frames: `[H, W, C]` each, uint8 or uint16; C is 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha). Alpha is
        not multiplied into the colours. One, except for animations and files of several pages.
      icc: colour profile.
      exif: EXIF as Pillow writes it, without the orientation, which is applied.
      dpi: dots per inch, horizontally and vertically.
      durations_ms: of the frames of an animation; empty for stills and pages.
      loop: how often an animation is repeated, 0 for ever; None where the file doesn't say.
      notes: a line for each thing that was lost in reading.
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
