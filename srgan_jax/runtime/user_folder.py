"""`user_cache_folder`: the folder in which the commands keep downloaded files and compiled programs."""

import os
import sys
from pathlib import Path


def user_cache_folder() -> Path:
    """Returns the user's cache folder on this platform: XDG_CACHE_HOME or ~/.cache on Linux.

    Raises:
      RuntimeError: the user has no home folder.
    """
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"])
    folder = Path(os.environ.get("XDG_CACHE_HOME", ""))  # by its specification, relative paths are ignored
    return folder if folder.is_absolute() else Path.home() / ".cache"
