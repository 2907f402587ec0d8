"""Search for image files in folders."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from srgan_jax.runtime.errors import MissingFileError

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jp2", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".avif", ".tga",
)  # fmt: skip


def folders(root: str | os.PathLike, parents: tuple = ()) -> Iterator[Path]:
    """Yields `root` and the folders below it, sorted, without hidden folders.

    Links are followed, except to a folder that contains them. A folder without read permission is included; its
    sub-folders are not.

    Args:
      root: a folder.
      parents: device and inode of its parent folders up to the root of the search.
    """
    root = Path(root)
    status = root.stat()
    identity = (status.st_dev, status.st_ino)
    if identity in parents:
        return
    yield root
    if os.access(root, os.R_OK | os.X_OK):
        for path in sorted(root.iterdir()):
            if path.is_dir() and not path.name.startswith("."):
                yield from folders(path, (*parents, identity))


def find_images(
    folder: str | os.PathLike, *, recursive: bool = True, suffixes: Collection[str] = SUFFIXES
) -> list[Path]:
    """Returns the image files in `folder`, sorted by path, without hidden files and folders.

    Links to folders are followed. Folders without read permission are ignored.

    Args:
      folder: the folder to search.
      recursive: search its sub-folders too.
      suffixes: suffixes of image files, in lower case.

    Raises:
      FileNotFoundError: `folder` is not a folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise MissingFileError(f"no such folder: {root}")
    readable = (path for path in (folders(root) if recursive else [root]) if os.access(path, os.R_OK | os.X_OK))
    files = (path for folder in readable for path in folder.iterdir() if path.suffix.lower() in suffixes)
    return sorted(path for path in files if not path.name.startswith(".") and os.path.isfile(path))


def broken_links(folder: str | os.PathLike) -> list[Path]:
    """Returns the symbolic links with an image's suffix in `folder` and below whose targets don't exist, relative."""
    files = (path for inside in folders(folder) if os.access(inside, os.R_OK | os.X_OK) for path in inside.iterdir())
    broken = (path for path in files if path.suffix.lower() in SUFFIXES and path.is_symlink() and not path.exists())
    return sorted(path.relative_to(folder) for path in broken)
