"""Paths that users give: local ones, and buckets of Google Cloud Storage, `gs://BUCKET/PATH`, by `etils.epath`.

All paths of run folders, data sets and weights pass through this module. All processes write checkpoints directly to a
bucket. Process 0 writes the other files of a run to a local copy of its folder (`open_folder`), which `push` uploads.
`local` downloads files that are only read.

A bucket has no locks, no exclusive creation of files, and no renaming of folders. An object appears when all of it is
uploaded. A run records its start in `lock`; the next run reports an old record, but may use the folder.
"""

import atexit
import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from srgan_jax.runtime import extras
from srgan_jax.runtime.errors import MissingFileError, UserError
from srgan_jax.runtime.locks import try_lock
from srgan_jax.runtime.user_folder import user_cache_folder

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")  # one letter is a drive of Windows
BUCKETS = {"gs": "gcs"}  # scheme -> the extra that reads it
DIRECT = ("checkpoints", "lock", "profile", "tensorboard")  # in the folder of a run: not downloaded by `open_folder`
CHUNK_BYTES = 1 << 24


def scheme(path: str | os.PathLike) -> str:
    """Returns the scheme of a path, such as "gs" of `gs://BUCKET/PATH`; "" for a local path."""
    found = SCHEME.match(os.fspath(path)) if isinstance(path, str | os.PathLike) else None
    return found[1].lower() if found else ""


def is_bucket(path: str | os.PathLike) -> bool:
    """Returns whether a path is in a bucket."""
    return scheme(path) in BUCKETS


def check(path: str | os.PathLike, name: str, accepted: Sequence[str] = tuple(BUCKETS)) -> None:
    """Raises UserError if a path is neither local nor of an accepted scheme, or names no bucket.

    Args:
      path: as the user gave it.
      name: name of the option or key, for the message; "" for none.
      accepted: the accepted schemes.
    """
    found, text = scheme(path), os.fspath(path)
    if not found:
        return
    label = f"{name}={text}" if name else text
    forms = {"gs": "gs://BUCKET/PATH", "hf": "hf://OWNER/NAME"}
    if found not in accepted:
        expected = " or ".join(["a local path", *(forms.get(each, f"{each}://PATH") for each in accepted)])
        typed = text[SCHEME.match(text).end() :].lstrip("/")  # pyright: ignore[reportOptionalMemberAccess] it matched above
        what = f"write /{typed}" if found == "file" else f"give a local path: copy the files, or mount {found}://"
        raise UserError(f"{label}: expected {expected}, got {found}://; {what}")
    if found in BUCKETS and not re.match(r"[A-Za-z]+://[^/]+(/|$)", text):
        raise UserError(f"{label}: expected {forms[found]}, such as gs://my-bucket/runs/srgan")
    if found in BUCKETS:
        extras.require(BUCKETS[found], text)


def remote(path: str | os.PathLike) -> Any:
    """Returns a path of a bucket as `etils.epath.Path`, which has the methods of `pathlib.Path`."""
    check(path, "")
    import fsspec.config
    from etils import epath

    # Listings are not kept: Orbax writes arrays without fsspec, and other processes write too.
    fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False
    return epath.Path(os.fspath(path).rstrip("/"))


class _Entry(NamedTuple):
    """A file of a bucket: its path below the folder, its size in bytes, and a text that changes with its content."""

    name: str
    size: int
    version: str


def _entries(folder: Any, skipped: Sequence[str] = ()) -> list[_Entry]:
    """Returns the files below a folder of a bucket, except those in its sub-folders `skipped`."""
    system, root = _system(folder)
    try:
        found = system.find(root, detail=True)
    except FileNotFoundError:
        return []
    entries = [
        _Entry(path[len(root) :].lstrip("/"), int(info["size"]), str(info.get("etag") or info.get("mtime")))
        for path, info in sorted(found.items())
        if not path.endswith("/")
    ]
    return [entry for entry in entries if entry.name and entry.name.partition("/")[0] not in skipped]


def _system(path: Any) -> tuple[Any, str]:
    """Returns the file system of a path of a bucket, and the path's name in it."""
    import fsspec.core

    return fsspec.core.url_to_fs(os.fspath(remote(path)))


def _download(source: Any, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with remote(source).open("rb") as reader, open(target, "wb") as writer:
        shutil.copyfileobj(reader, writer, CHUNK_BYTES)


def upload(source: str | os.PathLike, target: Any) -> None:
    """Copies a local file to a bucket, where it appears when it is complete."""
    with open(source, "rb") as reader, remote(target).open("wb") as writer:
        shutil.copyfileobj(reader, writer, CHUNK_BYTES)


# ------------------------------------------------------------------------------------------------ what is only read


def local(path: str | os.PathLike, skipped: Sequence[str] = ()) -> Any:
    """Returns `path`, or for a file or folder in a bucket the path of a local copy with all its content.

    Copies are kept in the user's cache folder, and downloaded again when the bucket's content has changed.

    Args:
      path: as the user gave it.
      skipped: sub-folders that are left out.

    Raises:
      MissingFileError: the bucket has no such file or folder.
      UserError: a scheme that isn't read, or the extra isn't installed.
    """
    if not scheme(path):
        return path
    found, entries = remote(path), [] if os.fspath(path).endswith("/") else _file_entry(path)
    is_file = bool(entries)
    entries = entries or _entries(found, skipped)
    if not entries:
        raise MissingFileError(f"{os.fspath(path)}: no such file or folder in the bucket")
    key = hashlib.sha256(json.dumps([os.fspath(found), entries]).encode()).hexdigest()[:24]
    cache = user_cache_folder() / "srgan_jax" / "buckets"
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    target = cache / key / found.name
    with open(cache / f"{key}.lock", "w") as lock:  # the processes of a machine share the copy
        try_lock(lock.fileno(), wait=True)
        if not target.exists():
            temporary = cache / f".partial-{secrets.token_hex(8)}"
            for entry in entries:
                inside = temporary / found.name if is_file else temporary / found.name / entry.name
                _download(found if is_file else found / entry.name, inside)
            temporary.rename(cache / key)
    return str(target) if isinstance(path, str) else target


def _file_entry(path: Any) -> list[_Entry]:
    """Returns the entry of a file; [] for a folder, or for nothing."""
    system, name = _system(path)
    try:
        info = system.info(name)
    except FileNotFoundError:
        return []
    return [_Entry("", int(info["size"]), str(info.get("etag")))] if info["type"] == "file" else []


@contextlib.contextmanager
def output_folder(path: str) -> Iterator[str]:
    """Yields the folder to write to: `path`, or for a bucket a local one, which is uploaded unless an error occurs."""
    if not scheme(path):
        yield path
        return
    target = remote(path)
    with tempfile.TemporaryDirectory() as folder:
        yield folder
        for file in _files(Path(folder)):
            upload(file, target / file.relative_to(folder).as_posix())


# ------------------------------------------------------------------------------------------------ the folder of a run


class _Mirror:
    """A local copy of the folder of a run in a bucket."""

    def __init__(self, url: str):
        self.home, self._state, self._failed = remote(url), {}, ""
        self._parent = tempfile.mkdtemp(prefix="srgan_jax-")
        atexit.register(shutil.rmtree, self._parent, ignore_errors=True)
        self.folder = Path(self._parent, self.home.name)
        self.folder.mkdir()
        self.pull()

    def pull(self) -> None:
        """Downloads the files of the bucket, except those in the folders `DIRECT`."""
        for entry in _entries(self.home, DIRECT):
            _download(self.home / entry.name, self.folder / entry.name)
        self._state = self._stamps()

    def push(self) -> None:
        """Uploads the files that changed, and deletes in the bucket those that were deleted here."""
        now = self._stamps()
        for name in [name for name, stamp in now.items() if self._state.get(name) != stamp]:
            upload(self.folder / name, self.home / name)
            self._state[name] = now[name]
        for name in self._state.keys() - now.keys():
            (self.home / name).unlink(missing_ok=True)
            del self._state[name]

    def _stamps(self) -> dict[str, tuple[int, int]]:
        found = {}
        for file in _files(self.folder):
            with contextlib.suppress(FileNotFoundError):
                status = file.stat()
                found[file.relative_to(self.folder).as_posix()] = status.st_mtime_ns, status.st_size
        return found


_mirrors: dict[Path, _Mirror] = {}


def open_folder(path: str | os.PathLike) -> Path:
    """Returns the folder of a run: `path`, or this process's local copy of a folder in a bucket."""
    check(path, "--workdir")
    if not scheme(path):
        return Path(path)
    mirror = _Mirror(os.fspath(path))
    _mirrors[mirror.folder] = mirror
    return mirror.folder


def home(folder: Path) -> Any:
    """Returns the original of a folder that `open_folder` returned: `folder`, or its path in the bucket."""
    return _mirrors[folder].home if folder in _mirrors else folder


def push(folder: Path) -> str:
    """Uploads what changed in a folder of `open_folder`, in process 0. Returns the reason of a failure, or ""."""
    try:
        if folder in _mirrors:
            _mirrors[folder].push()
    except Exception as error:  # those of the HTTP library and of the service, which have no common class
        return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    return ""


def pull(folder: Path) -> None:
    """Downloads what another process uploaded to a folder of `open_folder`."""
    if folder in _mirrors:
        _mirrors[folder].pull()


def with_addresses(text: str) -> str:
    """Returns a message in which the paths of local copies are replaced by their addresses in the bucket."""
    for folder, mirror in _mirrors.items():
        text = text.replace(str(folder), os.fspath(mirror.home))
    return text


def names(folder: Any) -> list[str]:
    """Returns the files in a folder, local or of a bucket, and its sub-folders: relative paths, sorted."""
    if is_bucket(folder):
        return [entry.name for entry in _entries(folder)]
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def folders(folder: Any) -> list[str]:
    """Returns the names of the sub-folders of a folder, local or of a bucket, without symbolic links."""
    if is_bucket(folder):  # which has no empty folders
        return sorted({name.partition("/")[0] for name in names(folder) if "/" in name})
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.is_symlink())


def rmtree(folder: Any) -> None:
    """Deletes a folder and all that is in it; raises OSError if that fails."""
    if is_bucket(folder):
        folder.rmtree()
    else:
        shutil.rmtree(folder)


def _files(folder: Path) -> Iterable[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".partial-"))
