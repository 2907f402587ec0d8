"""Compiled programs kept between runs, in a folder of the user's: JAX's persistent compilation cache, set up.

Only the commands ask for it. Importing the package changes nothing.
"""

import hashlib
import os
import platform
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

MAX_BYTES = 2 * 10**9  # of the folder; what was not used for longest goes first
MIN_COMPILE_SECONDS = 0.1  # JAX's own limit, 1 s, leaves out most of what a start compiles
ENTRIES = "*-cache"  # JAX's names


def user_cache_folder() -> Path:
    """Where this platform keeps what programs can make again: XDG_CACHE_HOME or ~/.cache on Linux.

    Raises:
      RuntimeError: the user has no home.
    """
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"])
    folder = Path(os.environ.get("XDG_CACHE_HOME", ""))  # a relative one is to be ignored, says its specification
    return folder if folder.is_absolute() else Path.home() / ".cache"


def machine_name() -> str:
    """A name for all machines that run the same machine code: programs compiled for CPUs use all that theirs can.

    JAX tells programs apart by its version, XLA's flags and the kind of device. A home that is shared by the machines
    of a cluster needs this besides: code for a newer CPU crashes an older one.
    """
    features, cpuinfo = f"{platform.processor()} {platform.machine()}", Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        wanted = ("flags", "Features", "vendor_id", "cpu family", "model\t", "CPU implementer", "CPU part")
        features += "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:12]}"


def enable_compilation_cache(folder: str = "auto", report: Callable[[str], None] = lambda line: None) -> Path | None:
    """Makes JAX keep what it compiles from now on, and look there first; to be called before anything is compiled.

    Where JAX_COMPILATION_CACHE_DIR or `jax_compilation_cache_dir` is set already, that stays.

    Args:
      folder: "auto" for the user's cache folder, "" for none, or a folder; in it one for each kind of CPU is made.
      report: gets a line where the folder can't be used, which is no error.

    Returns:
      The folder, or None where nothing was set.
    """
    if not folder or _jax_option("jax_compilation_cache_dir") or not _jax_option("jax_enable_compilation_cache"):
        return None
    try:
        base = user_cache_folder() / "srgan_jax" if folder == "auto" else Path(folder).expanduser().absolute()
        kept = base / machine_name()
        kept.mkdir(parents=True, exist_ok=True, mode=0o700)  # who can write there can run code here
        _clean(kept)
    except (OSError, RuntimeError) as error:
        report(f"compiled programs are not kept for the next start: {error}")
        return None
    jax.config.update("jax_compilation_cache_dir", str(kept))
    if _jax_option("jax_persistent_cache_min_compile_time_secs") == 1.0:  # JAX's default: nobody chose another
        jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS)
    return kept


def _jax_option(name: str) -> Any:
    """What JAX's settings are; they are no attributes that its class declares."""
    return getattr(jax.config, name)


def _clean(folder: Path) -> None:
    """Deletes entries that a kill or a full disk cut short, and of the others the oldest beyond `MAX_BYTES`.

    JAX's own limit (`jax_compilation_cache_max_size`) needs another package, and a lock that a kill can leave broken.
    """
    stamp = folder / "checked"  # entries before it were whole
    since = stamp.stat().st_mtime if stamp.exists() else 0.0
    stamp.touch()  # fails in a folder that can't be written
    used = []
    for entry in folder.glob(ENTRIES):
        try:
            found = entry.stat()
            if found.st_mtime >= since and not _is_complete(entry):
                entry.unlink()
            else:
                used.append((max(found.st_atime, found.st_mtime), found.st_size, entry))
        except FileNotFoundError:  # another process cleans, too
            continue
    total = sum(size for _, size, _ in used)
    for _, size, entry in sorted(used, key=lambda one: one[0]):
        if total <= MAX_BYTES:
            break
        entry.unlink(missing_ok=True)
        total -= size


def _is_complete(entry: Path) -> bool:
    data = entry.read_bytes()
    if data[:1] != b"\x78":  # not zlib's: JAX compresses with zstandard where that is installed
        return bool(data)
    stream = zlib.decompressobj()
    try:
        stream.decompress(data)
    except zlib.error:
        return False
    return stream.eof
