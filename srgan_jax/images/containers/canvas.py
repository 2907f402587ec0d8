"""Composition of the parts of an animation to whole frames, as GIF and APNG define it."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

KEEP, CLEAR, RESTORE = 0, 1, 2  # what happens to the canvas after a part was shown


class Part(NamedTuple):
    """What an animation stores of a frame: a rectangle that is drawn on the canvas.

    Attributes:
      left, top, width, height: the rectangle, in pixels.
      duration_ms: time for which the frame is shown.
      disposal: KEEP leaves the canvas as it is, CLEAR makes the rectangle transparent, RESTORE undoes the drawing.
      over: whether the part is composited on the canvas by its alpha; otherwise it replaces the rectangle.
      header: bytes that precede the samples in a file that holds this part alone.
      spans: offset and length of each piece of the samples in the file.
    """

    left: int
    top: int
    width: int
    height: int
    duration_ms: float
    disposal: int
    over: bool
    header: bytes
    spans: tuple[tuple[int, int], ...]


def compose(
    parts: Iterable[tuple[Part, np.ndarray]], size: tuple[int, int], dtype: type = np.uint8
) -> Iterator[np.ndarray]:
    """Yields the frames `[H, W, 4]` of an animation; `parts` have their samples `[h, w, 4]`, `size` is `(H, W)`.

    The canvas is transparent at first. What lies outside of it is not drawn.
    """
    canvas = np.zeros((*size, 4), dtype)
    for part, samples in parts:
        before = canvas.copy() if part.disposal == RESTORE else None
        region = canvas[part.top : part.top + samples.shape[0], part.left : part.left + samples.shape[1]]
        samples = samples[: region.shape[0], : region.shape[1]]
        region[:] = composite(samples, region) if part.over else samples
        yield canvas.copy()
        if part.disposal == CLEAR:
            region[:] = 0
        canvas = canvas if before is None else before


def composite(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Returns `above` composited on `below`, both `[H, W, 4]` with alpha that isn't premultiplied.

    Integer arithmetic as in the PNG specification, 3rd edition, section 13.16.
    """
    largest = int(np.iinfo(above.dtype).max)
    if not ((above[..., 3] > 0) & (above[..., 3] < largest)).any():
        return np.where(above[..., 3:] == 0, below, above)
    front, back = above.astype(np.int64), below.astype(np.int64)
    weight = front[..., 3:] * largest
    other = (largest - front[..., 3:]) * back[..., 3:]
    total = weight + other
    colour = (front[..., :3] * weight + back[..., :3] * other) // np.maximum(total, 1)
    mixed = np.concatenate([colour, total // largest], axis=-1).astype(above.dtype)
    return np.where(front[..., 3:] == 0, below, mixed)
