"""Image files in folders, and what they share when they are read."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from srgan_jax.errors import MissingFileError, UserError

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jp2", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".avif", ".tga",
)  # fmt: skip


class ImageError(UserError):
    """A file that can't be read as a picture; the message is the reason, in a few words."""


def folders(root: str | os.PathLike, above: tuple = ()) -> Iterator[Path]:
    """`root` and the folders below it, sorted, hidden ones left out; links are followed, but not into a folder above.

    One that may not be read is among them; what lies below it is not.

    Args:
      root: a folder.
      above: device and inode of the folders that it lies in.
    """
    root = Path(root)
    status = root.stat()
    place = (status.st_dev, status.st_ino)
    if place in above:
        return
    yield root
    if os.access(root, os.R_OK | os.X_OK):
        for path in sorted(root.iterdir()):
            if path.is_dir() and not path.name.startswith("."):
                yield from folders(path, (*above, place))


def find_pictures(
    folder: str | os.PathLike, *, recursive: bool = True, suffixes: Collection[str] = SUFFIXES
) -> list[Path]:
    """Every file with a picture's suffix in `folder` and below, sorted by path; hidden files and folders left out.

    Links to folders are followed; what may not be read is passed over.

    Args:
      folder: where to look.
      recursive: in its sub-folders too.
      suffixes: of pictures, lower case.

    Raises:
      FileNotFoundError: `folder` is not a folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise MissingFileError(f"no such folder: {root}")
    readable = (path for path in (folders(root) if recursive else [root]) if os.access(path, os.R_OK | os.X_OK))
    files = (path for folder in readable for path in folder.iterdir() if path.suffix.lower() in suffixes)
    return sorted(path for path in files if not path.name.startswith(".") and os.path.isfile(path))


def reason(error: Exception) -> str:
    """What is wrong with a file, in a few words, from what Pillow raised."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture in a known format"
    known = {PermissionError: "permission denied", FileNotFoundError: "no such file"}
    if type(error) in known:
        return known[type(error)]
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__


def check_pixels(pixels: int, max_pixels: int) -> None:
    """Refuses pictures without pixels, or with more than `max_pixels`.

    Raises:
      ImageError: so it is.
    """
    if not pixels:
        raise ImageError("has no pixels")
    if pixels > max_pixels:
        raise ImageError(f"{pixels / 1e6:,.4g} megapixels, more than the limit of {max_pixels / 1e6:,.4g}")


def upright_size(image: Image.Image, orientation: int) -> tuple[int, int]:
    """Height and width of an opened picture once its EXIF orientation is applied; 5 to 8 swap the axes."""
    width, height = image.size
    if image.format == "TIFF":  # Pillow may have turned the size already
        width, height = image.tag_v2[256], image.tag_v2[257]
    return (width, height) if orientation >= 5 else (height, width)


def is_gray(path: str | os.PathLike) -> bool:
    """Whether the file holds one channel (besides alpha); False where it can't be read."""
    try:
        with Image.open(path) as image:
            return image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;")
    except OSError:
        return False


def side_by_side(columns: list[np.ndarray], height: int | None = None, gap: int = 4) -> np.ndarray:
    """Pictures of the same content in one row, white between them.

    Args:
      columns: `[H, W, 3]` uint8 each; enlarged to `height` by repeating pixels where smaller.
      height: of the result; the largest of the pictures' by default.
      gap: pixels between two pictures.

    Returns:
      `[height, sum of widths + gaps, 3]` uint8.
    """
    height = height or max(image.shape[0] for image in columns)
    row = []
    for image in columns:
        size = (round(image.shape[1] * height / image.shape[0]), height)
        row += [np.asarray(Image.fromarray(image).resize(size, Image.Resampling.NEAREST))]
        row += [np.full((height, gap, 3), 255, np.uint8)]
    return np.concatenate(row[:-1], axis=1)
