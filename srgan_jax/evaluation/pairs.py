"""HR images with their LR images: test sets read from folders, and LR made from HR."""

import functools
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from srgan_jax import images
from srgan_jax.ops import color, resize
from srgan_jax.runtime.errors import MissingFileError, UserError


class Pair(NamedTuple):
    """A picture and its LR image, uint8, `hr.shape == scale * lr.shape` in height and width."""

    name: str
    lr: np.ndarray
    hr: np.ndarray
    gray: bool = False  # a gray file: its samples are compared as they are, not as MATLAB's luma of RGB


def crop_to_multiple(image: np.ndarray, scale: int) -> np.ndarray:
    """The top left part whose sides are multiples of `scale`."""
    height, width = image.shape[:2]
    return image[: height - height % scale, : width - width % scale]


@functools.partial(jax.jit, static_argnames=("scale", "convention"))
def _shrink(hr: jax.Array, scale: int, convention: str) -> jax.Array:
    return color.to_uint8(resize.downscale(color.from_uint8(hr), scale, convention=convention))


def make_pair(name: str, hr: np.ndarray, scale: int, convention: str = "A", gray: bool = False) -> Pair:
    """`hr` (uint8) cropped to a multiple of `scale`, with its bicubic LR image rounded to 8 bits."""
    hr = crop_to_multiple(hr, scale)
    return Pair(name, np.asarray(_shrink(hr, scale, convention)), hr, gray)


def _holds_pictures(folder: Path) -> bool:
    return (folder / "HR").is_dir() or bool(images.find_pictures(folder, recursive=False))


def _test_pictures(folder: Path) -> list[Path]:
    """The pictures in `folder` itself, whose names must tell them apart."""
    paths = images.find_pictures(folder, recursive=False)
    if not paths:
        inside = [str(path) for path in sorted(folder.iterdir()) if path.is_dir() and _holds_pictures(path)]
        hint = f" itself; name the sub-folders that hold some: {', '.join(inside[:10])}" if inside else ""
        raise MissingFileError(f"no pictures in {folder}{hint}")
    stems = [path.stem for path in paths]
    if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise UserError(f"{folder} holds several pictures of one name: {', '.join(twice[:10])}")
    return paths


def read_pairs(
    folder: str | os.PathLike,
    scale: int,
    convention: str = "A",
    keep_gray: bool = True,
    mine: Callable[[list[Path]], list[Path]] = lambda paths: paths,
) -> list[Pair]:
    """The pictures of a test set.

    Args:
      folder: HR pictures, sub-folders not looked into; or sub-folders `HR` and `LRx4` (for scale 4), same names.
      scale: HR pixels per LR pixel.
      convention: of the LR images that are made, see `resize`; those found in `LRx4` are used as they are.
      keep_gray: compare the samples of gray files as they are, as MATLAB code does; else as MATLAB's luma of RGB.
      mine: which of the HR files to read, such as `processes.process_slice`.

    Raises:
      MissingFileError: no such folder, or no picture in it.
      UserError: names or sizes of HR and LR don't match.
      ImageError: a picture can't be read.
    """
    root = Path(folder)
    hr_folder = root / "HR" if (root / "HR").is_dir() else root
    lr_folder = root / f"LRx{scale}"
    everything = _test_pictures(hr_folder)
    paths = mine(everything)
    grays = [keep_gray and images.is_gray(path) for path in paths]
    pictures = [images.read_rgb(path) for path in paths]
    if not lr_folder.is_dir():
        return [
            make_pair(path.stem, hr, scale, convention, gray)
            for path, hr, gray in zip(paths, pictures, grays, strict=True)
        ]
    lr_paths = {path.stem: path for path in _test_pictures(lr_folder)}
    found = {path.stem: images.read_rgb(lr_paths[path.stem]) for path in paths if path.stem in lr_paths}
    pairs = []
    wrong = [f"{name}: not in {hr_folder}" for name in sorted(lr_paths.keys() - {path.stem for path in everything})]
    for path, hr, gray in zip(paths, pictures, grays, strict=True):
        hr, lr = crop_to_multiple(hr, scale), found.get(path.stem)
        if lr is None:
            wrong.append(f"{path.stem}: not in {lr_folder}")
        elif (lr.shape[0] * scale, lr.shape[1] * scale) != hr.shape[:2]:
            wrong.append(f"{path.stem}: HR {hr.shape[1]} x {hr.shape[0]}, LR {lr.shape[1]} x {lr.shape[0]}")
        else:
            pairs.append(Pair(path.stem, lr, hr, gray))
    if wrong:
        raise UserError(f"{len(wrong)} pictures of {folder} don't match:\n  " + "\n  ".join(wrong[:10]))
    return pairs


def degrade_pairs(pairs: Sequence[Pair], degrade: Callable[..., jax.Array]) -> list[Pair]:
    """The same pictures with other LR images, each by a random key of its own name: the same every time.

    Args:
      pairs: the pictures.
      degrade: `(key, hr) -> lr`, a function of `degradations.DEGRADATIONS` with its options.
    """
    shrink = jax.jit(lambda key, hr: color.to_uint8(degrade(key, color.from_uint8(hr))))
    keys = [jax.random.fold_in(jax.random.key(0), zlib.crc32(pair.name.encode())) for pair in pairs]
    return [pair._replace(lr=np.asarray(shrink(key, pair.hr))) for key, pair in zip(keys, pairs, strict=True)]
