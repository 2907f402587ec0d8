"""Writing of TIFF files row by row: 8 or 16 bits, several pages, BigTIFF for files that may exceed 4 GB."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from srgan_jax.images.containers import jpeg_segments, tiff_tags
from srgan_jax.images.picture import Picture
from srgan_jax.runtime.atomic import atomic_file

TILE_PX = 256
BIG_BYTES = 3_500_000_000
Page = tuple[Iterable[np.ndarray], tuple[int, int, int], Any]  # strips of rows, (H, W, C) of the page, dtype


def write_tiff_pages(path: str | os.PathLike, pages: Iterable[Page], metadata: Picture, total_bytes: int) -> None:
    """Writes a TIFF from strips of rows; only one band of rows is in memory at a time.

    Args:
      path: the file, written atomically.
      pages: for each page its strips `[h, W, C]` from top to bottom, its `(H, W, C)`, and its dtype, uint8 or uint16.
        All strips of a page are read before the next page.
      metadata: the source of colour profile, resolution and EXIF; its frames are ignored.
      total_bytes: bytes of all samples; above 3.5 GB a BigTIFF is written.
    """
    with atomic_file(path) as temporary:
        write_pages(temporary, pages, metadata, total_bytes)


def write_pages(path: Path, pages: Iterable[Page], metadata: Picture, total_bytes: int = 0) -> None:
    """Writes the TIFF of `write_tiff_pages` to `path` itself, without a temporary file."""
    from tifffile import TiffWriter

    big = total_bytes > BIG_BYTES
    tags, directories = tiff_tags.split_exif(metadata.exif)
    tags += [(tag, *value, True) for tag, value in metadata.tiff_tags]
    tags += [(tag + 1, 16 if big else 4, 1, 0, True) for tag in directories]  # replaced by `add_directories`
    if metadata.xmp:
        tags.append((tiff_tags.XMP, 1, len(metadata.xmp), metadata.xmp, True))
    if metadata.photoshop:
        records, others = jpeg_segments.iptc_of(metadata.photoshop), jpeg_segments.without_iptc(metadata.photoshop)
        blocks = ((tiff_tags.IPTC, records), (tiff_tags.PHOTOSHOP, others))
        tags += [(tag, 1, len(data), data, True) for tag, data in blocks if data]
    with TiffWriter(path, bigtiff=big, byteorder="<") as tiff:
        for strips, (height, width, channels), dtype in pages:
            tiff.write(
                _tiff_tiles(strips, (height, width, channels)),
                shape=(height, width) if channels == 1 else (height, width, channels),
                dtype=dtype,
                photometric="rgb" if channels > 2 else "minisblack",
                planarconfig="contig" if channels > 1 else None,
                extrasamples=["unassalpha"] if channels in (2, 4) else None,
                tile=(TILE_PX, TILE_PX),
                compression="zlib",
                compressionargs={"level": 3},
                predictor=True,
                iccprofile=metadata.icc,
                resolution=metadata.dpi,
                resolutionunit="inch" if metadata.dpi else None,
                metadata=None,
                software=False,
                extratags=tags,
            )
    if directories:
        tiff_tags.add_directories(path, directories, big)


def _tiff_tiles(strips: Iterable[np.ndarray], shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """Cuts strips of any height into the square tiles of a TIFF; pads those at the right and bottom."""
    side, (_, width, channels) = TILE_PX, shape
    for rows in bands(strips, side):
        rows = np.pad(rows, ((0, side - len(rows)), (0, -width % side), (0, 0)))
        for left in range(0, width, side):
            tile = rows[:, left : left + side]
            yield np.ascontiguousarray(tile[..., 0] if channels == 1 else tile)


def bands(strips: Iterable[np.ndarray], height: int) -> Iterator[np.ndarray]:
    """Regroups strips of any height to bands of `height` rows each; the last band may have fewer rows."""
    buffer: list[np.ndarray] = []
    rows = 0
    for strip in strips:
        buffer.append(strip)
        rows += len(strip)
        if rows >= height:
            joined = np.concatenate(buffer)
            whole = rows // height * height
            yield from (joined[top : top + height] for top in range(0, whole, height))
            buffer, rows = [joined[whole:].copy()], rows - whole
    if rows:
        yield np.concatenate(buffer)
