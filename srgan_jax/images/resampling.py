"""Resizing of images that arrive in strips of rows."""

from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

BAND_PX = 256  # rows of the result that are computed at a time
CUBIC_RADIUS = 2.0


def resize_rows(
    strips: Iterable[np.ndarray], shape: tuple[int, int, int], size: tuple[int, int]
) -> Iterator[np.ndarray]:
    """Resizes an image to `size` with Pillow's antialiased bicubic, in bounded memory.

    Colours are weighted by alpha, so that the colours of transparent pixels don't affect visible ones.

    Args:
      strips: `[h, W, C]` uint8 or uint16 each, from top to bottom; with C of 2 or 4 the last channel is alpha.
      shape: `(H, W, C)` of the whole image.
      size: height and width of the result.

    Yields:
      Bands of the result, `[h, size[1], C]`, same dtype.
    """
    if tuple(shape[:2]) == tuple(size):
        yield from strips
        return
    ratio = shape[0] / size[0]  # input rows per output row
    radius = CUBIC_RADIUS * max(ratio, 1.0) + 1.0
    strips = iter(strips)
    buffer, first = np.zeros((0, *shape[1:]), np.uint8), 0  # rows `first`, ... of the input
    for top in range(0, size[0], BAND_PX):
        bottom = min(top + BAND_PX, size[0])
        start, stop = max(0, int(top * ratio - radius)), min(shape[0], int(np.ceil(bottom * ratio + radius)))
        pieces, rows = [buffer[start - first :]], first + len(buffer)
        while rows < stop:
            strip = next(strips)
            pieces.append(strip)
            rows += len(strip)
        buffer, first = np.concatenate([piece for piece in pieces if len(piece)]), start
        box = (0.0, top * ratio - start, float(shape[1]), bottom * ratio - start)
        yield _resize(buffer[: stop - start], (bottom - top, size[1]), box)


def _resize(image: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float]) -> np.ndarray:
    def channel(samples: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(samples).resize((size[1], size[0]), Image.Resampling.BICUBIC, box=box))

    dtype, alpha = image.dtype, image.shape[-1] in (2, 4)
    largest = np.float32(np.iinfo(dtype).max)
    samples = image.astype(np.float32) / largest
    if alpha:
        samples[..., :-1] *= samples[..., -1:]
    samples = np.stack([channel(np.ascontiguousarray(samples[..., c])) for c in range(image.shape[-1])], axis=-1)
    if alpha:
        samples[..., :-1] /= np.maximum(samples[..., -1:], 1e-6)
    return np.floor(np.clip(samples, 0.0, 1.0) * largest + np.float32(0.5)).astype(dtype)
