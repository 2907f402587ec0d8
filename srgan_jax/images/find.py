"""Search for image files in folders."""

import collections
import os
from collections.abc import Iterator
from pathlib import Path

from srgan_jax.images.sniff import RAW_TIFFS, head_of, recognize
from srgan_jax.runtime.errors import MissingFileError

# Files of these names are taken for images whatever they hold; others are if their content is that of an image.
SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jp2", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".avif", ".tga",
    ".apng", ".jfif", ".mpo", ".dib", ".pnm", ".pbm", ".j2k", ".j2c", ".jpf", ".jpx", ".jxl", ".psd", ".qoi", ".heic",
    ".heif", ".hif", *RAW_TIFFS, ".cr3", ".crw", ".orf", ".raf", ".rw2", ".x3f", ".mrw",
)  # fmt: skip


def folders(root: str | os.PathLike) -> Iterator[Path]:
    """Yields `root` and the folders below it, without hidden folders.

    Links are followed after the folders themselves, and each folder is visited once, whatever number of links leads to
    it. A folder without read permission is included; its sub-folders are not.
    """
    seen: set[tuple[int, int]] = set()
    waiting, linked = [Path(root)], collections.deque[Path]()
    while waiting or linked:
        folder = waiting.pop() if waiting else linked.popleft()
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        yield folder
        if os.access(folder, os.R_OK | os.X_OK):
            inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
            linked += [path for path in inside if path.is_symlink()]
            waiting += [path for path in reversed(inside) if not path.is_symlink()]


def find_images(folder: str | os.PathLike, *, recursive: bool = True) -> list[Path]:
    """Returns the image files in `folder`, by name or content, sorted by path, without hidden files and folders.

    Links to folders are followed. Folders without read permission are ignored.

    Args:
      folder: the folder to search.
      recursive: search its sub-folders too.

    Raises:
      FileNotFoundError: `folder` is not a folder.
    """
    return [path for path in _files(folder, recursive=recursive) if _is_image(path)]


def other_files(folder: str | os.PathLike) -> list[Path]:
    """Returns the files that `find_images` leaves out, hidden ones not counted."""
    return [path for path in _files(folder) if not _is_image(path)]


def _files(folder: str | os.PathLike, *, recursive: bool = True) -> list[Path]:
    root = Path(folder)
    if not root.is_dir():
        raise MissingFileError(f"no such folder: {root}")
    readable = (path for path in (folders(root) if recursive else [root]) if os.access(path, os.R_OK | os.X_OK))
    files = (path for folder in readable for path in folder.iterdir())
    return sorted(path for path in files if not path.name.startswith(".") and os.path.isfile(path))


def _is_image(path: Path) -> bool:
    """Returns whether the name or the content of a file is that of an image."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return True
    try:
        return recognize(head_of(path), suffix or "none") is not None  # "none": a name without a suffix
    except OSError:
        return False


def broken_links(folder: str | os.PathLike) -> list[Path]:
    """Returns the symbolic links with an image's suffix in `folder` and below whose targets don't exist, relative."""
    files = (path for inside in folders(folder) if os.access(inside, os.R_OK | os.X_OK) for path in inside.iterdir())
    broken = (path for path in files if path.suffix.lower() in SUFFIXES and path.is_symlink() and not path.exists())
    return sorted(path.relative_to(folder) for path in broken)
