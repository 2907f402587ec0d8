"""`cached_on_disk` keeps results of slow computations that depend only on the code and on their arguments.

Only the commands keep results on the disk: `folder` is None until `compilation.enable_compilation_cache` sets it.
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
writes = True  # False in all processes of a job except process 0, because they may share the folder


def cached_on_disk(name: str, arguments: Mapping[str, Any], of_package: bool, compute: Callable[[], Any]) -> Any:
    """Returns `compute()`, or the value that an earlier process computed.

    Args:
      name: name of the value, a part of the file's name.
      arguments: everything that the value depends on, besides the code; valid JSON.
      of_package: whether the network from which the value is computed is one of this package, whose code
        `code_version` describes; the value is kept only for those.
      compute: returns a value that is valid JSON.
    """
    if folder is None or not of_package:
        return compute()
    key = json.dumps([name, dict(arguments), code_version()], sort_keys=True, default=list)
    path = folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()}.json"
    with contextlib.suppress(OSError, ValueError):
        kept = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(kept, list) and kept[:1] == [key]:
            return kept[1]
    value = json.loads(json.dumps(compute()))  # a computed value has the types of one that is read
    with contextlib.suppress(OSError):
        if writes:
            atomic.write_text(path, json.dumps([key, value]))
    return value


@functools.cache
def code_version() -> list:
    """Returns size and modification time of each of the package's files about networks, and the version of JAX."""
    import jax

    parts = ("models", "ops", "inference", "weights")
    files = [PACKAGE / "config" / "networks.py"]  # the bounds that `weights.limits` checks
    files += [file for part in parts for file in sorted(Path(PACKAGE, part).rglob("*.py"))]
    return [jax.__version__, *((file.name, *_stamp(os.stat(file))) for file in files)]


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns
