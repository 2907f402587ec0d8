"""Image files in folders."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from srgan_jax.runtime.errors import MissingFileError

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jp2", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".avif", ".tga",
)  # fmt: skip


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
