"""Sets up JAX's persistent compilation cache in a folder of the user.

Only the commands enable it; importing the package changes nothing.
"""

import hashlib
import os
import platform
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax._src import distributed  # the number of this process, before JAX opens its devices

from srgan_jax.runtime import disk_cache, programs, storage
from srgan_jax.runtime.user_folder import user_cache_folder

MAX_BYTES = 2 * 10**9  # limit of the folder; the least recently used entries are deleted first
MIN_COMPILE_SECONDS = 0.1  # JAX's default, 1 s, excludes most programs that a start compiles
ENTRIES = "*-cache"  # file names that JAX gives
PROGRAMS = f"{programs.SUB_FOLDER}/*"


def machine_name() -> str:
    """Returns a name that is equal for machines whose CPUs have the same features.

    JAX's cache keys contain its version, XLA's flags and the kind of device, but not the CPU features. On a cluster
    with a shared home folder, code compiled for a newer CPU would crash on an older one.
    """
    features, cpuinfo = f"{platform.processor()} {platform.machine()}", Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        wanted = ("flags", "Features", "vendor_id", "cpu family", "model\t", "CPU implementer", "CPU part")
        features += "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:12]}"


def enable_compilation_cache(folder: str = "auto", report: Callable[[str], None] = lambda line: None) -> Path | None:
    """Enables JAX's persistent compilation cache; call it before anything is compiled.

    The processes of a job may share a folder: only process 0 writes there. A cache folder that is already set by
    JAX_COMPILATION_CACHE_DIR or `jax_compilation_cache_dir` is kept.

    Args:
      folder: "auto" for the user's cache folder, "" for no cache, or a path, local or of a bucket. Each kind of CPU has
        a sub-folder.
      report: called with a line if the folder can't be used; this is not an error.

    Returns:
      The folder that was set, or None.
    """
    if not folder or _jax_option("jax_compilation_cache_dir") or not _jax_option("jax_enable_compilation_cache"):
        return None
    if storage.scheme(folder):
        cache = storage.remote(folder) / machine_name()  # JAX opens it by etils.epath
        return _set_folder(cache)
    try:
        base = user_cache_folder() / "srgan_jax" if folder == "auto" else Path(folder).expanduser().absolute()
        cache = base / machine_name()
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)  # another user who can write there could run code
        disk_cache.folder = cache
        disk_cache.writes = distributed.global_state.process_id == 0
        if disk_cache.writes:
            _clean(cache)
    except (OSError, RuntimeError) as error:
        report(f"compiled programs are not cached for the next start: {error}")
        return None
    return _set_folder(cache)


def _set_folder(cache: Any) -> Any:
    jax.config.update("jax_compilation_cache_dir", os.fspath(cache))
    if _jax_option("jax_persistent_cache_min_compile_time_secs") == 1.0:  # JAX's default
        jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS)
    return cache


def _jax_option(name: str) -> Any:
    """Returns an option of `jax.config`, whose class doesn't declare its options as attributes."""
    return getattr(jax.config, name)


def _clean(folder: Path) -> None:
    """Deletes entries truncated by a kill or a full disk, and the least recently used entries beyond `MAX_BYTES`.

    JAX's own limit (`jax_compilation_cache_max_size`) isn't used: it needs another package, and a kill can break its
    lock.
    """
    stamp = folder / "checked"  # entries older than this file were complete
    since = stamp.stat().st_mtime if stamp.exists() else 0.0
    stamp.touch()  # raises OSError if the folder can't be written
    used = []
    for entry in [*folder.glob(ENTRIES), *folder.glob(PROGRAMS)]:
        try:
            stat = entry.stat()
            if stat.st_mtime >= since and entry.match(ENTRIES) and not _is_complete(entry):
                entry.unlink()
            else:
                used.append((max(stat.st_atime, stat.st_mtime), stat.st_size, entry))
        except FileNotFoundError:  # another process deleted it
            continue
    total = sum(size for _, size, _ in used)
    for _, size, entry in sorted(used, key=lambda entry: entry[0]):
        if total <= MAX_BYTES:
            break
        entry.unlink(missing_ok=True)
        total -= size


def _is_complete(entry: Path) -> bool:
    data = entry.read_bytes()
    if data[:1] != b"\x78":  # not zlib: JAX compresses with zstandard if that is installed
        return bool(data)
    stream = zlib.decompressobj()
    try:
        stream.decompress(data)
    except zlib.error:
        return False
    return stream.eof
