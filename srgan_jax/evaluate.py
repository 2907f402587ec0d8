"""Scores of an upscaler over pictures."""

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from srgan_jax import color, images, metrics, resize
from srgan_jax.errors import MissingFileError, lookup

# upscale_fn(lr [H, W, 3] in [0, 1], size) -> sr: the picture of `size` lies in the top left of both, see
# inference.upscale_canvas
UpscaleFn = Callable[[np.ndarray, tuple[int, int]], jax.Array]


class Pair(NamedTuple):
    """A picture and its LR image, uint8, `hr.shape == scale * lr.shape` in height and width."""

    name: str
    lr: np.ndarray
    hr: np.ndarray


def crop_to_multiple(image: np.ndarray, scale: int) -> np.ndarray:
    """The top left part whose sides are multiples of `scale`."""
    height, width = image.shape[:2]
    return image[: height - height % scale, : width - width % scale]


def make_pair(name: str, hr: np.ndarray, scale: int, convention: str = "A") -> Pair:
    """`hr` (uint8) cropped to a multiple of `scale`, with its bicubic LR image rounded to 8 bits."""
    hr = crop_to_multiple(hr, scale)
    return Pair(name, np.asarray(_shrink(hr, scale, convention)), hr)


@functools.partial(jax.jit, static_argnames=("scale", "convention"))
def _shrink(hr: jax.Array, scale: int, convention: str) -> jax.Array:
    return color.to_uint8(resize.downscale(color.from_uint8(hr), scale, convention=convention))


def read_pairs(folder: str | os.PathLike, scale: int, convention: str = "A") -> list[Pair]:
    """A pair from each picture in `folder`.

    Raises:
      FileNotFoundError: no such folder, or no picture in it.
      ImageError: a picture can't be read.
    """
    paths = images.find_pictures(folder)
    if not paths:
        raise MissingFileError(f"no pictures in {folder}")
    return [make_pair(path.stem, images.read_rgb(path), scale, convention) for path in paths]


def bicubic(lr: np.ndarray, scale: int) -> np.ndarray:
    """MATLAB's bicubic enlargement of `[H, W, 3]` uint8, the baseline of every table."""
    size = (lr.shape[0] * scale, lr.shape[1] * scale)
    return np.asarray(color.to_uint8(resize.resize(color.from_uint8(lr), size, convention="C")))


def _onto_canvas(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """`[*size, 3]` float32 in [0, 1], the outermost rows and columns repeated outside the picture."""
    pad = [(0, size[0] - image.shape[0]), (0, size[1] - image.shape[1]), (0, 0)]
    return np.pad(image, pad, mode="edge").astype(np.float32) / 255.0


def upscale_all(upscale_fn: UpscaleFn, pairs: Sequence[Pair]) -> list[np.ndarray]:
    """The SR pictures, uint8, with one compilation for all sizes."""
    canvas = np.max([pair.lr.shape[:2] for pair in pairs], axis=0)
    results = []
    for pair in pairs:
        sr = upscale_fn(_onto_canvas(pair.lr, canvas), pair.lr.shape[:2])
        results.append(np.asarray(color.to_uint8(sr))[: pair.hr.shape[0], : pair.hr.shape[1]])
    return results


def score(
    pairs: Sequence[Pair],
    results: Iterable[np.ndarray],
    names: Sequence[str] = ("psnr_y", "ssim_y"),
    border: int | None = None,
) -> list[dict[str, float]]:
    """Metrics of each picture, on 8-bit results as they would stand in files.

    Args:
      pairs: the pictures.
      results: uint8, in the shape of each pair's `hr`.
      names: in `metrics.METRICS`.
      border: pixels left out at each side; None is the scale, as papers have it.

    Returns:
      For each picture, name of the metric to value.
    """
    canvas = np.max([pair.hr.shape[:2] for pair in pairs], axis=0)
    rows = []
    for pair, result in zip(pairs, results, strict=True):
        if result.shape != pair.hr.shape:
            raise ValueError(f"{pair.name}: expected a result of {pair.hr.shape}, got {result.shape}")
        border_px = pair.hr.shape[0] // pair.lr.shape[0] if border is None else border
        both = (_onto_canvas(result, canvas), _onto_canvas(pair.hr, canvas))
        measure = {name: lookup(metrics.METRICS, name, "metric") for name in names}
        rows.append({name: float(f(*both, border=border_px, size=pair.hr.shape[:2])) for name, f in measure.items()})
    return rows


def mean(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each metric over the pictures."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
