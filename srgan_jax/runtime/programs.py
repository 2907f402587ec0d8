"""`KeptProgram`: a jitted function whose compiled programs are kept on the disk, so that a start needs no tracing.

JAX's own cache (`compilation`) only avoids the compilation: its keys are made from the traced function, and tracing a
network takes longer than upscaling a small image.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from srgan_jax.runtime import atomic, disk_cache

SUB_FOLDER = "programs"  # of the cache folder
DIGEST_BYTES = 32  # of SHA-256, at the beginning of a file
Signature = tuple[Any, tuple[tuple[tuple[int, ...], str], ...]]


class KeptProgram:
    """Calls a jitted function by the programs that this process or an earlier one compiled.

    Programs are kept if `disk_cache.folder` is set (only the commands set it) and one device is used. If a file is
    damaged, or this version of JAX can't use it, the program is compiled again. A loaded program is machine code that
    is run, so the folder must belong to the user, and nobody else may write there.
    """

    def __init__(self, function: Any, is_known: Callable[..., bool]):
        """Wraps a function.

        Args:
          function: result of `jax.jit`, whose arguments are arrays and pytrees only; its code is in `models`, `ops` or
            `inference`.
          is_known: gets the arguments, and returns whether the result depends only on their values, shapes and static
            parts; False if the function calls code of the user.
        """
        self._function, self._is_known = function, is_known
        self._programs: dict[Signature, Any] = {}

    def __call__(self, *arguments: Any) -> Any:
        """Returns `function(*arguments)`."""
        if disk_cache.folder is None or jax.device_count() > 1 or not self._is_known(*arguments):
            return self._function(*arguments)
        leaves, structure = jax.tree.flatten(arguments)
        signature = structure, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)
        if signature not in self._programs:
            path = _path(disk_cache.folder, self._function.__name__, signature)
            kept = None if path is None else _load(path, structure)
            with contextlib.suppress(Exception):  # a program of another system may fail with any exception
                if kept is not None:
                    result = jax.block_until_ready(kept(*arguments))
                    self._programs[signature] = kept
                    return result
            self._programs[signature] = self._function if path is None else self._compile(path, arguments)
        return self._programs[signature](*arguments)

    def _compile(self, path: Path, arguments: tuple[Any, ...]) -> Any:
        """Returns the program for the arguments' shapes, and writes it to `path` if JAX can serialise it."""
        from jax.experimental import serialize_executable

        with _without_compilation_cache():
            program = self._function.lower(*arguments).compile()
        with contextlib.suppress(Exception):  # a platform that can't serialise programs, or a full disk
            data = serialize_executable.serialize(program)[0]
            with atomic.atomic_file(path) as temporary:
                temporary.write_bytes(hashlib.sha256(data).digest() + data)
        return program


def _path(folder: Path, name: str, signature: Signature) -> Path | None:
    """Returns the path of a program's file; None if the folder isn't the user's, or others may write there."""
    device = jax.devices()[0]
    known = [
        name, str(signature), disk_cache.code_version(), device.device_kind, device.client.platform_version,
        sorted((key, str(value)) for key, value in jax.config.values.items()),
        [os.environ.get(flags, "") for flags in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")],
    ]  # fmt: skip
    programs = folder / SUB_FOLDER
    try:
        programs.mkdir(mode=0o700, exist_ok=True)
        status = programs.lstat()
    except OSError:
        return None
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022 or programs.is_symlink()):
        return None
    return programs / f"{name}-{hashlib.sha256(json.dumps(known).encode()).hexdigest()}"


def _load(path: Path, structure: Any) -> Any:
    """Returns the program in a file; None if there is none, or if it can't be used."""
    from jax.experimental import serialize_executable

    with contextlib.suppress(Exception):  # a damaged file may raise any exception
        content = path.read_bytes()
        data = content[DIGEST_BYTES:]
        if hashlib.sha256(data).digest() == content[:DIGEST_BYTES]:
            given = jax.tree.structure((jax.tree.unflatten(structure, range(structure.num_leaves)), {}))
            result, devices = jax.tree.structure(0), jax.devices()[:1]
            return serialize_executable.deserialize_and_load(data, given, result, execution_devices=devices)
    return None


@contextlib.contextmanager
def _without_compilation_cache() -> Iterator[None]:
    """Disables JAX's cache in the `with` block: on a CPU, a program loaded from that cache can't be serialised."""
    from jax.experimental.compilation_cache import compilation_cache

    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
        compilation_cache.reset_cache()
