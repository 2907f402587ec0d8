"""`Picture`: the contents of an image file."""

import dataclasses

import numpy as np

from srgan_jax.images.color_space import ColorSpace
from srgan_jax.images.tiff_tags import Value


@dataclasses.dataclass(frozen=True)
class Picture:
    r"""The frames and metadata of an image file, with its EXIF orientation applied.

    Attributes:
      frames: `[H, W, C]` each, uint8 or uint16; C is 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha). Colours are
        not premultiplied by alpha. Animations and multi-page files have several frames, other images one.
      icc: bytes of the ICC colour profile.
      exif: bytes of the EXIF as in the file, after "Exif\0\0"; the orientation is 1, there is no thumbnail.
      dpi: horizontal and vertical resolution, dots per inch.
      color: colour space that the file states in another way than by a profile.
      xmp: bytes of the XMP packet; the orientation is 1.
      extended_xmp: the segments of a JPEG that continue an XMP packet of more than 64 KB.
      photoshop: bytes of Photoshop's resources, which hold IPTC.
      comment: bytes of a comment (JPEG, GIF, JPEG 2000).
      text: text chunks of a PNG, kind and data.
      tiff_tags: tags of a TIFF, number and values.
      durations_ms: durations of the frames of an animation; empty for still images and pages.
      loop: number of repetitions of an animation, 0 for infinitely many; None if the file doesn't contain it.
      notes: a message for each loss in reading.
    """

    frames: tuple[np.ndarray, ...]
    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    color: ColorSpace | None = None
    xmp: bytes | None = None
    extended_xmp: tuple[bytes, ...] = ()
    photoshop: bytes | None = None
    comment: bytes | None = None
    text: tuple[tuple[bytes, bytes], ...] = ()
    tiff_tags: tuple[tuple[int, Value], ...] = ()
    durations_ms: tuple[int, ...] = ()
    loop: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(H, W, C)` of the first frame."""
        return self.frames[0].shape
