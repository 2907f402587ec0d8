"""Encoding of animations frame by frame: a few frames are in memory at a time, whatever the length."""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np
from PIL import Image

from srgan_jax.images.containers.apng import ApngWriter
from srgan_jax.images.containers.gif import GifWriter, encode_gif
from srgan_jax.images.containers.webp import WebpWriter
from srgan_jax.images.picture import Picture

Size = tuple[int, int]  # height and width
OrderedMap = Callable[[Callable[[np.ndarray], bytes], Iterator[np.ndarray]], Iterator[bytes]]


class Step(NamedTuple):
    """What changes from the frame before: an image of the changed rectangle, and its place, top and left."""

    frame: np.ndarray
    place: Size


class Writer(Protocol):
    """Joins encoded frames to an animation."""

    def add(self, encoded: bytes, place: Size, duration_ms: float, clear: bool) -> None:
        """Appends a frame, at `place`, top and left; `clear` makes it transparent after its time."""
        ...

    def close(self) -> None:
        """Completes the file."""
        ...


def write_frames(
    path: Path,
    frames: Iterable[np.ndarray],
    picture: Picture,
    size: Size,
    encode: Callable[[Picture], bytes],
    ordered_map: OrderedMap = map,
) -> None:
    """Writes an animated GIF, PNG or WebP, in bounded memory, to `path` itself.

    Args:
      path: the file; its suffix is the format.
      frames: `[H, W, C]` each, in their order.
      picture: durations, repetitions and metadata; of its frames the number and the layout are used.
      size: height and width of the frames.
      encode: returns a still image in the format of the file; is called in threads.
      ordered_map: like `map`; may call `encode` ahead in threads.

    Raises:
      UserError: the format can't hold the file.
    """
    suffix, (shape, dtype) = path.suffix.lower(), picture.layouts[0]
    transparent = shape[2] in (2, 4)
    metadata = encode(dataclasses.replace(picture, frames=(np.zeros((1, 1, shape[2]), dtype),), durations_ms=()))
    clears = suffix == ".gif" and transparent  # a transparent pixel of a GIF can't replace another pixel
    steps = (Step(frame, (0, 0)) for frame in frames) if clears else changes(frames, 2 if suffix == ".webp" else 1)
    places: collections.deque[Size] = collections.deque()

    def noted() -> Iterator[np.ndarray]:
        for step in steps:
            places.append(step.place)
            yield step.frame

    def encoded(frame: np.ndarray) -> bytes:
        return encode_gif(frame) if suffix == ".gif" else encode(Picture((frame,), lossless=picture.lossless))

    with open(path, "w+b") as file:
        writer = _writer(suffix, file, size, picture, transparent, metadata)
        for data, duration in zip(ordered_map(encoded, noted()), picture.durations_ms, strict=True):
            writer.add(data, places.popleft(), duration, clears)
        writer.close()


def _writer(suffix: str, file: BinaryIO, size: Size, picture: Picture, transparent: bool, metadata: bytes) -> Writer:
    loop = picture.loop or 0
    if suffix == ".gif":
        return GifWriter(file, size, loop, picture.comment or b"")
    if suffix == ".webp":
        return WebpWriter(file, size, loop, transparent, metadata)
    return ApngWriter(file, size, loop, len(picture.durations_ms), metadata)


def changes(frames: Iterable[np.ndarray], grid: int) -> Iterator[Step]:
    """Yields the rectangle of each frame that differs from the frame before, at least one pixel.

    Its top and left are multiples of `grid`.
    """
    before = None
    for frame in frames:
        if before is None:
            yield Step(frame, (0, 0))
        else:
            differs = (frame != before).any(axis=-1)
            rows, columns = (np.flatnonzero(differs.any(axis=axis)) for axis in (1, 0))
            top, bottom = (rows[0] // grid * grid, rows[-1] + 1) if len(rows) else (0, 1)
            left, right = (columns[0] // grid * grid, columns[-1] + 1) if len(rows) else (0, 1)
            yield Step(frame[top:bottom, left:right], (int(top), int(left)))
        before = frame


class FrameImage(Image.Image):
    """An image with several frames, for encoders of Pillow that read frames in order; makes each when it is read."""

    def __init__(self, frames: Iterable[np.ndarray], count: int):
        """Takes the first frame; `count` is the number of frames."""
        super().__init__()
        self._frames, self.n_frames, self._index = iter(frames), count, -1
        self.is_animated = count > 1
        self.seek(0)

    def seek(self, frame: int) -> None:
        """Reads the next frame; an earlier frame can't be read again: the call then changes nothing."""
        if frame >= self.n_frames:
            raise EOFError
        if frame > self._index:
            image = Image.fromarray(np.ascontiguousarray(with_colour(next(self._frames))))
            self.im, self._mode, self._size, self._index = image.im, image.mode, image.size, frame

    def tell(self) -> int:
        """Returns the number of the frame."""
        return self._index


def with_colour(frame: np.ndarray) -> np.ndarray:
    """Returns `[H, W, 1 to 4]` with gray repeated to RGB."""
    gray = frame.shape[-1] <= 2
    return np.concatenate([np.repeat(frame[..., :1], 3, axis=-1), frame[..., 1:]], axis=-1) if gray else frame


def whole_ms(durations_ms: Iterable[float]) -> list[int]:
    """Returns durations in whole milliseconds; what is rounded off is added to the next."""
    ends = [round(end) for end in itertools.accumulate(durations_ms)]
    return [end - start for start, end in itertools.pairwise([0, *ends])]
