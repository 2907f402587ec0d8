"""`cached_on_disk`: results of slow computations that depend on the code and their arguments alone.

Only the commands keep them on the disk: `folder` is None until `compilation.enable_compilation_cache` sets it.
"""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from srgan_jax.runtime import atomic

PACKAGE = Path(__file__).parents[1]
folder: Path | None = None
writes = True  # False in all processes of a job but the first: they may share the folder


def cached_on_disk(name: str, arguments: Mapping[str, Any], module: object, compute: Callable[[], Any]) -> Any:
    """Returns `compute()`, or its value that an earlier process kept.

    Args:
      name: of what is computed.
      arguments: all that the value depends on; JSON can hold it.
      module: the network that it is computed from; the value is kept only for networks of this package.
      compute: returns a value that JSON can hold.
    """
    if folder is None or not is_of_package(module):
        return compute()
    key = json.dumps([name, dict(arguments), code_version()], sort_keys=True, default=list)
    path = folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()}.json"
    with contextlib.suppress(OSError, ValueError):
        kept = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(kept, list) and kept[:1] == [key]:
            return kept[1]
    value = json.loads(json.dumps(compute()))  # the same types, whether it is computed or read
    with contextlib.suppress(OSError):
        if writes:
            atomic.write_text(path, json.dumps([key, value]))
    return value


def is_of_package(module: object) -> bool:
    """Returns whether a network is one of this package, whose code `code_version` describes."""
    return type(module).__module__.startswith("srgan_jax.models.")


@functools.cache
def code_version() -> list:
    """Returns size and modification time of each of the package's files about networks, and the version of JAX."""
    import jax

    files = (file for part in ("models", "ops", "inference") for file in sorted(Path(PACKAGE, part).rglob("*.py")))
    return [jax.__version__, *((file.name, *_stamp(os.stat(file))) for file in files)]


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns
