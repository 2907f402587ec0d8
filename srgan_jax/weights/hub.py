"""Weights on the Hugging Face Hub: `hf://owner/name[@revision][/FILE.safetensors]` in place of a path.

Only `.safetensors` files are read, so no code of a repository runs. Files are kept in the Hub's cache (`HF_HOME`), from
which they are read where the Hub can't be reached. The extra `hub` installs the client, `huggingface_hub`.
"""

import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from srgan_jax.runtime import extras, storage
from srgan_jax.runtime.errors import MissingFileError, UserError
from srgan_jax.runtime.messages import report
from srgan_jax.weights.safetensors_io import WeightsError, read_metadata, sha256_of

PREFIX, SUFFIX = "hf://", ".safetensors"
NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"  # of an owner or a repository, by the rules of the Hub
MAX_NAME = 96  # characters of "owner/name"
GENERATOR = "generator.safetensors"  # read where a repository has several files
FORM = "hf://owner/name[@revision][/FILE.safetensors]"
SHOWN = 10  # names in a message


class Address(NamedTuple):
    """The parts of an address; `revision` and `file` are "" where they are not given."""

    repository: str
    revision: str
    file: str

    def __str__(self) -> str:
        revision, file = self.revision and f"@{self.revision}", self.file and f"/{self.file}"
        return f"{PREFIX}{self.repository}{revision}{file}"


def is_address(path: str | os.PathLike) -> bool:
    """Returns whether `path` begins as an address of the Hub."""
    return os.fspath(path).startswith(PREFIX)


def parse(address: str) -> Address:
    """Returns the parts of an address; raises UserError if it has another form, or names a file that isn't read."""
    match = re.fullmatch(rf"hf://({NAME}/{NAME})(?:@(refs/pr/\d+|[^/@]+))?(?:/([^@]+))?", address)
    if not match:
        raise UserError(f"{address}: expected {FORM}, such as hf://owner/name or hf://owner/name@v1.0")
    found = Address(*(part or "" for part in match.groups()))
    if found.file and not found.file.endswith(SUFFIX):
        raise UserError(
            f"{address}: only {SUFFIX} files are read from the Hub, got {found.file}; download it yourself, and give "
            "the file"
        )
    return found


def local_file(path: str | os.PathLike) -> str | os.PathLike:
    """Returns `path`, or the local copy of an address of the Hub (see `fetch`) or of a bucket.

    Of a run's folder in a bucket, the files beside `checkpoints` are copied.
    """
    if is_address(path):
        return fetch(os.fspath(path))
    storage.check(path, "weights", ("gs", "hf"))
    return storage.local(path, (*storage.DIRECT, "samples", "dataset"))


def beside(address: str, name: str) -> Path:
    """Returns the cached file `name` of the repository and revision of an address."""
    return fetch(str(parse(address)._replace(file=name)))


@functools.cache
def fetch(address: str) -> Path:
    """Downloads the weights of an address, unless the cache has them, and reports their size and SHA-256.

    Without a file in the address, it is `generator.safetensors`, or the only `.safetensors` of the repository.

    Raises:
      UserError: the extra `hub` isn't installed, the address has another form, or the repository is closed to you or
        has several files.
      MissingFileError: there is no such repository, revision or file; or the Hub can't be reached and the file isn't
        in the cache.
      WeightsError: the file is no `.safetensors`.
    """
    parts = parse(address)
    extras.require("hub", address)
    import huggingface_hub
    from huggingface_hub import errors

    where: dict[str, Any] = {"repo_id": parts.repository, "revision": parts.revision or None}
    try:
        names = [file.rfilename for file in huggingface_hub.HfApi().model_info(**where).siblings or []]
        path = Path(huggingface_hub.hf_hub_download(filename=_choose(parts, names), **where))
    except errors.GatedRepoError:
        raise UserError(f"{address}: accept its owner's terms on the Hub first, then log in: hf auth login") from None
    except errors.RepositoryNotFoundError:
        raise MissingFileError(f"{address}: no such repository, or a private one; log in: hf auth login") from None
    except errors.RevisionNotFoundError:
        raise MissingFileError(f"{address}: {parts.repository} has no revision {parts.revision}") from None
    except UserError:
        raise
    except Exception as error:  # that of the HTTP library, which differs between versions of huggingface_hub
        path = _cached(address, parts, where, error)
    _check(address, path)
    return path


def _choose(parts: Address, names: Sequence[str]) -> str:
    """Returns the file of a repository that is meant, given the names of its files."""
    names = sorted(name for name in names if name.endswith(SUFFIX))
    listed = ", ".join(names[:SHOWN]) or f"none; only {SUFFIX} files are read"
    if parts.file:
        if parts.file in names:
            return parts.file
        raise MissingFileError(f"{parts}: no such file in {parts.repository}; its weights: {listed}")
    if GENERATOR in names or len(names) == 1:
        return GENERATOR if GENERATOR in names else names[0]
    if not names:
        raise MissingFileError(f"{parts}: no weights in {parts.repository}: {listed}")
    raise UserError(f"{parts}: {parts.repository} has several weights: {listed}; write one of them: {parts}/{names[0]}")


def _cached(address: str, parts: Address, where: dict[str, Any], error: Exception) -> Path:
    """Returns the file of the cache, where the Hub gave `error`."""
    from huggingface_hub import errors, snapshot_download

    try:
        folder = Path(snapshot_download(**where, allow_patterns=[], local_files_only=True))
        names = [path.relative_to(folder).as_posix() for path in folder.rglob(f"*{SUFFIX}")]
        path = folder / _choose(parts, names)
    except (errors.LocalEntryNotFoundError, MissingFileError, ValueError):
        raise MissingFileError(f"{address} can't be downloaded ({_reason(error)}), and isn't in the cache") from None
    report(f"{address}: the Hub can't be reached; read from the cache")
    return path


def _check(address: str, path: Path) -> None:
    """Reports what was downloaded; raises WeightsError if it is no `.safetensors`, whatever its name."""
    try:
        read_metadata(path)
    except WeightsError as error:
        raise WeightsError(f"{address}: {error}") from None
    size_mb, revision = path.stat().st_size / 1e6, path.parts[path.parts.index("snapshots") + 1]
    report(f"{address}: {path.name}, revision {revision}, {size_mb:.1f} MB, SHA-256 {sha256_of(path)}")


def check_repository(name: str) -> None:
    """Raises UserError unless `name` is that of a repository, "owner/name"."""
    refused = "--" in name or ".." in name or name.endswith(".git") or len(name) > MAX_NAME
    if refused or not re.fullmatch(f"{NAME}/{NAME}", name):
        raise UserError(
            f"{name!r:.120}: expected a repository, OWNER/NAME, of letters, digits, _, and single - and . between "
            f"them, with at most {MAX_NAME} characters"
        )


def check_login() -> None:
    """Raises UserError where the extra `hub` isn't installed or there is no token of the Hub."""
    extras.require("hub", "srgan-jax push")
    import huggingface_hub

    if (token := huggingface_hub.get_token()) is None:
        raise UserError("push needs a token of the Hub that may write: hf auth login; -o DIR only writes the files")
    if not re.fullmatch(r"[!-~]+", token):
        raise UserError("the token of the Hub has characters that no token has; log in again: hf auth login")


def push(folder: str | os.PathLike, repository: str, *, private: bool = False) -> str:
    """Uploads the files of a folder to a repository in one commit; returns the address of the new revision.

    Args:
      folder: its files replace those of the same name.
      repository: "owner/name"; created where it doesn't exist.
      private: whether a new repository is visible to its owner only.

    Raises:
      UserError: as `check_repository` and `check_login`, or the Hub refuses.
    """
    check_repository(repository)
    check_login()
    import huggingface_hub

    api = huggingface_hub.HfApi()
    files = sorted(path for path in Path(folder).iterdir() if path.is_file())
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        added = [huggingface_hub.CommitOperationAdd(path.name, path) for path in files]
        commit = api.create_commit(repository, added, commit_message="Weights and model card by srgan-jax push")
    except Exception as error:  # that of the HTTP library, which differs between versions of huggingface_hub
        raise UserError(f"{repository}: the Hub refused, or can't be reached: {_reason(error)}") from None
    return f"{PREFIX}{repository}@{commit.oid}"


def _reason(error: Exception) -> str:
    """Returns the first line of an error's message, or the name of its type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
