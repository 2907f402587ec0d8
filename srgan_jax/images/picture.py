"""`Picture`: the contents of an image file."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from srgan_jax.images.color_space import ColorSpace
from srgan_jax.images.containers.tiff_tags import Value


class Frames:
    """The frames of an animation, decoded while they are iterated; all have the same shape and dtype.

    Attributes:
      shape: `(H, W, C)` of a frame.
      dtype: uint8 or uint16.
    """

    def __init__(
        self, read: Callable[[], Iterator[np.ndarray]], count: int, shape: tuple[int, int, int], dtype: np.dtype
    ):
        """Stores `read`, which decodes from the first frame on, and what it will give."""
        self._read, self._count = read, count
        self.shape, self.dtype = shape, dtype

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[np.ndarray]:
        return self._read()

    def __getitem__(self, index: int) -> np.ndarray:
        """Returns a frame; decodes those before it."""
        return next(itertools.islice(self, range(self._count)[index], None))


AnyFrames = Sequence[np.ndarray] | Frames


def change_frames(
    frames: AnyFrames,
    change: Callable[[np.ndarray], np.ndarray],
    *,
    channels: int | None = None,
    dtype: type | None = None,
) -> AnyFrames:
    """Returns frames with `change` applied to each, when it is read if they are `Frames`.

    Args:
      frames: the frames.
      change: the function, which keeps height and width.
      channels: number of channels that it gives; None if it keeps them.
      dtype: dtype that it gives; None if it keeps it.
    """
    if not isinstance(frames, Frames):
        return tuple(map(change, frames))
    shape = (*frames.shape[:2], channels or frames.shape[2])
    return Frames(lambda: map(change, frames), len(frames), shape, np.dtype(dtype or frames.dtype))


@dataclasses.dataclass(frozen=True)
class Picture:
    r"""The frames and metadata of an image file, with its EXIF orientation applied.

    Attributes:
      frames: `[H, W, C]` each, uint8 or uint16; C is 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha). Colours are
        not premultiplied by alpha. Animations and multi-page files have several frames, other images one.
        A tuple, or `Frames` where they are decoded one at a time.
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
      loop: how often an animation is played, 0 for infinitely often; None if the file doesn't contain it.
      lossless: whether the file is a WebP or JPEG XL without loss; it is then written so.
      notes: a message for each loss in reading.
    """

    frames: AnyFrames
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
    durations_ms: tuple[float, ...] = ()
    loop: int | None = None
    lossless: bool = False
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(H, W, C)` of the first frame."""
        return self.layouts[0][0]

    @property
    def layouts(self) -> list[tuple[tuple[int, int, int], np.dtype]]:
        """`(H, W, C)` and dtype of each frame; decodes none."""
        if isinstance(self.frames, Frames):
            return [(self.frames.shape, self.frames.dtype)] * len(self.frames)
        return [(frame.shape, frame.dtype) for frame in self.frames]
