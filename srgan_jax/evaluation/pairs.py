"""Pairs of HR and LR images: reading of test sets from folders, and computation of LR from HR."""

import functools
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from srgan_jax import images
from srgan_jax.images import paired_folders
from srgan_jax.ops import color, resize
from srgan_jax.runtime import storage
from srgan_jax.runtime.errors import MissingFileError, UserError
from srgan_jax.runtime.names import readable


class Pair(NamedTuple):
    """An HR image and its LR image, uint8 or uint16; height and width of `hr` are `scale` times those of `lr`."""

    name: str
    lr: np.ndarray
    hr: np.ndarray
    gray: bool = False  # a gray file: its samples are scored directly, not MATLAB's luma of RGB


def crop_to_multiple(image: np.ndarray, scale: int) -> np.ndarray:
    """Crops the image at the right and bottom, so that its sides are multiples of `scale`."""
    height, width = image.shape[:2]
    return image[: height - height % scale, : width - width % scale]


@functools.partial(jax.jit, static_argnames=("scale", "convention"))
def _downscale(hr: jax.Array, scale: int, convention: str) -> jax.Array:
    levels = color.levels_of(hr.dtype)
    lr = resize.downscale(color.from_integers(hr), scale, convention=convention, levels=levels)
    return color.to_integers(lr, hr.dtype)


def make_pair(name: str, hr: np.ndarray, scale: int, convention: str = "A", gray: bool = False) -> Pair:
    """Crops `hr` (uint8) to multiples of `scale` and computes its bicubic LR image, rounded to 8 bits.

    Raises:
      UserError: a side of `hr` is smaller than `scale`.
    """
    height, width = hr.shape[:2]
    if min(height, width) < scale:
        raise UserError(
            f"{name} is {width} x {height} px; expected sides of at least {scale} px for a scale of {scale}"
        )
    hr = crop_to_multiple(hr, scale)
    return Pair(name, np.asarray(_downscale(hr, scale, convention)), hr, gray)


def _contains_images(folder: Path) -> bool:
    hr = (path for path in folder.iterdir() if path.is_dir() and paired_folders.HR_NAME.search(path.name))
    return any(hr) or bool(images.find_images(folder, recursive=False))


def _find_test_images(folder: Path) -> list[Path]:
    """Returns the image files in `folder` itself.

    Raises:
      MissingFileError: there are none.
      UserError: two of them have the same name up to the suffix.
    """
    paths = images.find_images(folder, recursive=False)
    if not paths:
        inside = [str(path) for path in sorted(folder.iterdir()) if path.is_dir() and _contains_images(path)]
        hint = f" itself; give the sub-folders that contain images: {', '.join(inside[:10])}" if inside else ""
        raise MissingFileError(f"no images in {folder}{hint}")
    stems = [path.stem for path in paths]
    if duplicates := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise UserError(f"{folder} contains images whose names differ in the suffix only: {', '.join(duplicates[:10])}")
    return paths


def _lr_by_name(lr_folder: Path, hr_paths: Sequence[Path], lr_name: str) -> dict[str, Path]:
    """Returns the LR files of a folder by the names of their HR images, or by their own where there is none."""
    lr_files = {path.stem: path for path in _find_test_images(lr_folder)}
    names = paired_folders.lr_by_hr([path.stem for path in hr_paths], list(lr_files), lr_name)
    return {names[stem]: path for stem, path in lr_files.items()}


def read_pairs(
    folder: str | os.PathLike,
    scale: int,
    convention: str = "A",
    keep_gray: bool = True,
    select: Callable[[list[Path]], list[Path]] = lambda paths: paths,
    lr_name: str = "",
    bands: images.Bands = images.RGB,
) -> list[Pair]:
    """Reads the pairs of a test set; the files are decoded in processes of their own, see `images.isolated_decoding`.

    Args:
      folder: a folder of HR images, without its sub-folders; or a folder with sub-folders of HR and LR images, see
        `paired_folders.find_test_set`.
      scale: HR pixels per LR pixel.
      convention: how LR is computed from HR, see `resize`; not used with a folder of LR images.
      keep_gray: score the samples of gray files directly, as MATLAB code does; otherwise MATLAB's luma of RGB.
      select: function that selects the HR files to read, such as `processes.process_slice`.
      lr_name: names of the LR images, such as "{name}x4"; "" for those of HR up to marks such as x4, HR or _LR.
      bands: of the images, see `images.decode_bands`.

    Raises:
      MissingFileError: no such folder, or no image in it.
      UserError: names or sizes of HR and LR don't match.
      ImageError: an image can't be read.
    """
    root = Path(storage.local(folder))
    if not root.is_dir():
        raise MissingFileError(f"no such folder: {folder}; test sets are folders of HR images, see docs/evaluation.md")
    paired_folders.check_template(lr_name)
    hr_folder, lr_folder = paired_folders.find_test_set(root, scale)
    all_paths = _find_test_images(hr_folder)
    paths = select(all_paths)
    read = functools.partial(images.read_bands, bands=bands)
    with images.isolated_decoding():
        hr_images = [read(path) for path in paths]  # first: a file that can't be read is reported
    grays = [keep_gray and bands.count == 3 and images.is_gray(path) for path in paths]
    if lr_folder is None:
        return [
            make_pair(readable(path.stem), hr, scale, convention, gray)
            for path, hr, gray in zip(paths, hr_images, grays, strict=True)
        ]
    lr_paths = _lr_by_name(lr_folder, all_paths, lr_name)
    with images.isolated_decoding():
        lr_images = {path.stem: read(lr_paths[path.stem]) for path in paths if path.stem in lr_paths}
    pairs = []
    mismatches = [f"{name}: not in {hr_folder}" for name in sorted(lr_paths.keys() - {path.stem for path in all_paths})]
    for path, hr, gray in zip(paths, hr_images, grays, strict=True):
        hr, lr = crop_to_multiple(hr, scale), lr_images.get(path.stem)
        if lr is None:
            mismatches.append(f"{path.stem}: not in {lr_folder}")
        elif (lr.shape[0] * scale, lr.shape[1] * scale) != hr.shape[:2]:
            mismatches.append(f"{path.stem}: HR {hr.shape[1]} x {hr.shape[0]}, LR {lr.shape[1]} x {lr.shape[0]}")
        else:
            pairs.append(Pair(readable(path.stem), lr, hr, gray))
    if mismatches:
        listed = "\n  ".join(mismatches[:10])
        raise UserError(f"{len(mismatches)} images of {folder} don't form pairs of HR and LR:\n  {listed}")
    return pairs


def degrade_pairs(pairs: Sequence[Pair], degrade: Callable[..., jax.Array]) -> list[Pair]:
    """Returns the pairs with LR images computed by a degradation.

    The random key of each image is derived from its name, so the result is deterministic.

    Args:
      pairs: the pairs; their LR images are replaced.
      degrade: `(key, hr) -> lr`, a function of `degradations.DEGRADATIONS` with its options.
    """
    downscale = jax.jit(lambda key, hr: color.to_integers(degrade(key, color.from_integers(hr)), hr.dtype))
    keys = [jax.random.fold_in(jax.random.key(0), zlib.crc32(pair.name.encode())) for pair in pairs]
    return [pair._replace(lr=np.asarray(downscale(key, pair.hr))) for key, pair in zip(keys, pairs, strict=True)]
