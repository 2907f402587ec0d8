"""Pictures of 16 bits and TIFFs of rare kinds: what Pillow would cut to 8 bits, or can't read."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from srgan_jax.images.files import ImageError, check_pixels, reason

MAX_FRAMES = 4096  # of animations too


def read_frames(
    file: str | os.PathLike | BinaryIO, format: str, orientation: int, max_pixels: int
) -> tuple[np.ndarray, ...]:
    """The pictures in a "PNG" or "TIFF" file, `[H, W, C]` uint16 each, turned upright."""
    if format == "PNG":
        from imagecodecs import png_decode

        pixels = png_decode(Path(file).read_bytes() if not hasattr(file, "read") else _all_of(file))
        return (upright(pixels if pixels.ndim == 3 else pixels[..., None], orientation),)
    with tiff_pages(file, max_pixels) as pages:
        return tuple(upright(tiff_pixels(page), orientation) for page in pages)


def is_tiff(file: str | os.PathLike | BinaryIO) -> bool:
    """Whether the file begins as a TIFF or BigTIFF does."""
    head = _all_of(file)[:4] if hasattr(file, "read") else _head(file)
    return head in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _head(path: str | os.PathLike) -> bytes:
    with open(path, "rb") as file:
        return file.read(4)


@contextlib.contextmanager
def tiff_pages(file: str | os.PathLike | BinaryIO, max_pixels: int) -> Iterator[list]:
    """The pages of a TIFF as tifffile has them, for what Pillow can't read."""
    from tifffile import TiffFile

    try:
        with TiffFile(BytesIO(_all_of(file)) if hasattr(file, "read") else file) as tiff:
            pages = list(itertools.islice(tiff.pages, MAX_FRAMES))
            check_pixels(sum(page.imagewidth * page.imagelength for page in pages), max_pixels)
            yield pages
    except ImageError:
        raise
    except Exception as error:  # damaged
        raise ImageError(reason(error)) from None


def _all_of(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """EXIF orientation 1 to 8 applied to an array."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def tiff_pixels(page: Any) -> np.ndarray:
    """One page as `[H, W, C]` uint16."""
    photometric = page.photometric.name
    colours = {"MINISBLACK": 1, "MINISWHITE": 1, "RGB": 3}.get(photometric)
    if colours is None or page.ndim not in (2, 3):
        raise ImageError(f"TIFF of {photometric} with more than 8 bits is not supported")
    pixels = page.asarray()
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if page.planarconfig.name == "SEPARATE":
        pixels = np.moveaxis(pixels, 0, -1)
    pixels = to_uint16(pixels)
    if photometric == "MINISWHITE":
        pixels = 65535 - pixels
    alpha = pixels.shape[-1] > colours and page.extrasamples and page.extrasamples[0].name != "UNSPECIFIED"
    if alpha and page.extrasamples[0].name == "ASSOCALPHA":
        share = np.maximum(pixels[..., colours : colours + 1], 1) / 65535.0
        pixels[..., :colours] = np.minimum(pixels[..., :colours] / share + 0.5, 65535).astype(np.uint16)
    return np.ascontiguousarray(pixels[..., : colours + bool(alpha)])


def to_uint16(samples: np.ndarray) -> np.ndarray:
    """16-bit samples from any kind: floats in [0, 1], 32-bit integers over their range, 8-bit ones widened."""
    if samples.dtype == np.uint16:
        return samples
    if samples.dtype == np.uint8:
        return samples.astype(np.uint16) * np.uint16(257)
    if samples.dtype == np.uint32:
        return (samples >> 16).astype(np.uint16)
    if samples.dtype.kind == "f" and np.isfinite(samples).all() and samples.min() >= 0 and samples.max() <= 1:
        return np.floor(samples * 65535.0 + 0.5).astype(np.uint16)
    raise ImageError(f"{samples.dtype} samples from {samples.min()} to {samples.max()}; floats must lie in [0, 1]")
