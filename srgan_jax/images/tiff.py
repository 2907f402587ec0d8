"""TIFF files: of 16 bits, of several pages, by rows; a BigTIFF where 4 GB may not suffice."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from srgan_jax.images.pictures import EXIF_DIRECTORY, Picture
from srgan_jax.paths import whole_file

TILE_PX = 256


def write_tiff_rows(
    path: str | os.PathLike, strips: Iterable[np.ndarray], shape: tuple[int, int, int], dtype: Any, about: Picture
) -> None:
    """Writes a TIFF from rows as they come; a BigTIFF where it may exceed 4 GB.

    Args:
      path: the file.
      strips: `[h, W, C]` each, from top to bottom.
      shape: `(H, W, C)` of the whole.
      dtype: uint8 or uint16.
      about: its profile, resolution and EXIF are written; its frames are not looked at.
    """
    with whole_file(path) as temporary:
        write_tiff(temporary, _tiff_tiles(strips, shape), shape, dtype, about)


def write_tiff(path: Path, data: Any, shape: tuple, dtype: Any, about: Picture, append: bool = False) -> None:
    """Writes one picture: `data` is `[H, W, C]`, or an iterator of its tiles; `append` adds a page to a file."""
    from tifffile import TiffWriter

    height, width, channels = shape
    large = height * width * channels * np.dtype(dtype).itemsize > 3.5e9
    tags = [(tag, "s", 0, text, True) for tag, text in _texts(about.exif).items()]
    with TiffWriter(path, bigtiff=large and not append, append=append) as tiff:
        tiff.write(
            data if not isinstance(data, np.ndarray) else np.squeeze(data, -1) if channels == 1 else data,
            shape=(height, width) if channels == 1 else shape,
            dtype=dtype,
            photometric="rgb" if channels > 2 else "minisblack",
            planarconfig="contig" if channels > 1 else None,
            extrasamples=["unassalpha"] if channels in (2, 4) else None,
            tile=(TILE_PX, TILE_PX),
            compression="zlib",
            compressionargs={"level": 3},
            predictor=True,
            iccprofile=about.icc,
            resolution=about.dpi,
            resolutionunit="inch" if about.dpi else None,
            metadata=None,
            software=False,
            extratags=tags,
        )


def _texts(exif: bytes | None) -> dict[int, str]:
    """The texts of EXIF's first directory, which TIFF has too: description, maker, model, date, artist, copyright."""
    if not exif:
        return {}
    tags = Image.Exif()
    tags.load(exif)
    return {tag: str(value) for tag, value in tags.items() if tag != EXIF_DIRECTORY and isinstance(value, str)}


def _tiff_tiles(strips: Iterable[np.ndarray], shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """Rows of any height as the square tiles of a TIFF, those at the right and bottom padded."""
    side, (_, width, channels) = TILE_PX, shape
    for rows in bands(strips, side):
        rows = np.pad(rows, ((0, side - len(rows)), (0, -width % side), (0, 0)))
        for left in range(0, width, side):
            tile = rows[:, left : left + side]
            yield np.ascontiguousarray(tile[..., 0] if channels == 1 else tile)


def bands(strips: Iterable[np.ndarray], height: int) -> Iterator[np.ndarray]:
    """Rows of any height regrouped to `height` each; the last band may be lower."""
    held: list[np.ndarray] = []
    rows = 0
    for strip in strips:
        held.append(strip)
        rows += len(strip)
        if rows >= height:
            joined = np.concatenate(held)
            whole = rows // height * height
            yield from (joined[top : top + height] for top in range(0, whole, height))
            held, rows = [joined[whole:].copy()], rows - whole
    if rows:
        yield np.concatenate(held)
