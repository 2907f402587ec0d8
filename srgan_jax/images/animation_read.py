"""Decoding of animations frame by frame: one frame is in memory at a time."""

import contextlib
import os
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from srgan_jax.images import high_bit_depth
from srgan_jax.images.containers import apng, canvas, gif
from srgan_jax.images.errors import ImageError, reason
from srgan_jax.images.files import is_open, opened, read_bytes
from srgan_jax.images.picture import AnyFrames, Frames, change_frames
from srgan_jax.images.pixels import current_frame, stated_orientation

Opener = Callable[[], contextlib.AbstractContextManager[Image.Image]]


class Layered(NamedTuple):
    """A format whose frames are parts drawn on a canvas: its reader of parts, and its decoder of one part."""

    read_parts: Callable[[BinaryIO], Iterator[canvas.Part]]
    decode: Callable[[canvas.Part, bytes], np.ndarray]


LAYERED = {"GIF": Layered(gif.read_parts, gif.decode), "PNG": Layered(apng.read_parts, apng.decode)}


def read_frames(
    file: str | os.PathLike | BinaryIO, image: Image.Image, open_again: Opener
) -> tuple[AnyFrames, tuple[float, ...]]:
    """Returns the frames of an animation, which are decoded when they are iterated, and their durations in ms.

    All frames are decoded once, to find damage and the channels that they need: RGB if one frame has colour, alpha if
    one frame is transparent somewhere.

    Args:
      file: path or open binary file.
      image: the same file, opened by Pillow; its EXIF orientation is applied to the frames.
      open_again: opens the file with Pillow once more.

    Raises:
      ImageError: a frame is damaged.
    """
    if image.format in LAYERED:
        source = BytesIO(read_bytes(file)) if is_open(file) else file
        return _layered_frames(source, image, LAYERED[image.format])
    durations = []

    def decoded() -> Iterator[np.ndarray]:
        durations.clear()
        with open_again() as again:
            for index in range(getattr(again, "n_frames", 1)):
                again.seek(index)
                frame = current_frame(again)
                durations.append(_milliseconds(again.info.get("duration")))
                yield frame

    shape, count = (0, 0, 0), 0
    for frame in decoded():  # all have the channels of the first
        shape, count = frame.shape, count + 1
    return Frames(decoded, count, shape, np.dtype(np.uint8)), tuple(durations)


def _milliseconds(duration: Any) -> float:
    duration = max(0.0, float(duration or 0))
    return int(duration) if duration.is_integer() else duration


def _layered_frames(
    source: str | os.PathLike | BytesIO, image: Image.Image, layered: Layered
) -> tuple[AnyFrames, tuple[float, ...]]:
    with opened(source) as file:
        parts = tuple(layered.read_parts(file))
    if not parts:
        raise ImageError("damaged animation: no frame")
    deep = image.format == "PNG" and apng.bit_depth(parts[0]) == 16
    dtype = np.dtype(np.uint16 if deep else np.uint8)
    size = image.height, image.width
    orientation = stated_orientation(image, source)

    def decoded() -> Iterator[np.ndarray]:
        with opened(source) as file:
            drawn = ((part, _samples(file, part, layered)) for part in parts)
            for frame in canvas.compose(drawn, size, dtype.type):
                yield high_bit_depth.upright(frame, orientation)

    colour = image.format == "PNG" and apng.has_colour(parts[0])
    alpha = image.format == "PNG" and apng.has_alpha(parts[0])
    height, width = size
    for frame in decoded():
        colour = colour or bool((frame[..., :1] != frame[..., 1:3]).any())
        alpha = alpha or bool((frame[..., 3] != np.iinfo(dtype).max).any())
        height, width = frame.shape[:2]
    channels = [*range(3 if colour else 1), *([3] if alpha else [])]
    frames = Frames(decoded, len(parts), (height, width, 4), dtype)
    return change_frames(
        frames, lambda frame: np.ascontiguousarray(frame[..., channels]), channels=len(channels)
    ), tuple(part.duration_ms for part in parts)


def _samples(file: BinaryIO, part: canvas.Part, layered: Layered) -> np.ndarray:
    """Decodes a part of an open file."""
    data = []
    for offset, length in part.spans:
        file.seek(offset)
        data.append(file.read(length))
    try:
        return layered.decode(part, b"".join(data))
    except ImageError:
        raise
    except Exception as error:  # Pillow's plug-ins raise exceptions of many types for damaged files
        raise ImageError(reason(error)) from None
