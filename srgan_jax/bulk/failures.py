"""The boundary around each file: the reason of a failure in a line, and its traceback in a log file."""

import datetime
import os
import traceback
from pathlib import Path

from srgan_jax import images
from srgan_jax.runtime.compilation import user_cache_folder
from srgan_jax.runtime.errors import UserError

EXPECTED = (UserError, OSError, MemoryError)  # explained by their messages; other types are bugs, here or in a library
MAX_LOG_BYTES = 1 << 20  # a larger log is emptied first


def log_file() -> Path:
    """Returns the file for the tracebacks of unexpected errors, in the user's cache folder."""
    return user_cache_folder() / "srgan_jax" / "errors.log"


def describe(error: Exception, source: Path) -> str:
    """Returns the reason of a failure in a line; writes the traceback of an unexpected error to `log_file`."""
    if isinstance(error, EXPECTED):
        return images.reason(error)
    text = "".join(traceback.format_exception(error))
    reason = f"{type(error).__name__}: {images.reason(error)}"
    try:
        path = log_file()
        _append(path, f"{datetime.datetime.now().isoformat(' ', 'seconds')} {str(source)!a}\n{text}\n")
    except (OSError, RuntimeError):  # no home folder, or a full disk
        return reason
    return f"{reason} (traceback in {path})"


def _append(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    full = path.exists() and path.stat().st_size > MAX_LOG_BYTES
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | (os.O_TRUNC if full else 0)
    with open(os.open(path, flags, 0o600), "a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
