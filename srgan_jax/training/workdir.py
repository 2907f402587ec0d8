"""The folder of a run: its lock, checks of the stages trained in it, and the weights written at the end."""

import contextlib
import datetime
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from srgan_jax import models, weights
from srgan_jax.config import recorded
from srgan_jax.config.schema import RunConfig
from srgan_jax.runtime import atomic, messages, peers, processes, storage
from srgan_jax.runtime.errors import UserError
from srgan_jax.runtime.types import PyTree
from srgan_jax.training import checksums, nonfinite
from srgan_jax.training.initial import COPY, DISCRIMINATOR_COPY, is_same
from srgan_jax.training.network_fields import find_generator, select_keys
from srgan_jax.training.start import architecture_differences

try:
    import fcntl
except ImportError:  # Windows, where training is not supported: see data.builder
    fcntl = None


TOKEN_SECONDS = 5.0
LAST_ATTEMPTS, UPLOAD_SECONDS = 5, 5.0  # of uploading at the end of a run
DIVERGENCE_ADVICE = (
    "try a lower learning rate, gradient clipping (--config.stages.{}.clip_norm=1.0), or --debug_nans to find the "
    "first non-finite value"
)


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Creates `workdir` and locks it for all processes of this run.

    Raises:
      UserError: another run has locked it, or processes have different folders. The message names process, host and
        start time of the other run.
    """
    with contextlib.ExitStack() as held:
        processes.on_first_process(lambda: _lock(workdir, held))
        check_shared(workdir)
        peers.how_to_resume(lambda: how_to_resume(workdir))
        try:
            yield
        finally:
            upload(workdir, attempts=LAST_ATTEMPTS)


def check_shared(workdir: Path) -> None:
    """Raises UserError if other processes don't see in `workdir` what process 0 writes there.

    Otherwise they would wait at the first checkpoint for a folder that process 0 creates elsewhere.
    """
    if jax.process_count() == 1:
        return
    home = storage.home(workdir)
    token = processes.on_first_process(lambda: _write_token(home))
    found = processes.gather([_appears(home / token), socket.gethostname()])
    with contextlib.suppress(OSError):
        (home / token).unlink(missing_ok=True)  # of process 0, or nothing
    apart = [f"{index} on {host}" for index, (seen, host) in enumerate(found) if not seen]
    if apart:
        raise UserError(
            f"--workdir={workdir}: expected one folder for all processes, but what process 0 on {found[0][1]} writes "
            f"there isn't seen by process {', '.join(apart)}; give a folder that all machines mount, or gs://BUCKET/PATH"
        )


def _write_token(home: Any) -> str:
    name = f".job-{secrets.token_hex(8)}"  # a new name, which no file system has cached as missing
    (home / name).write_text(_this_process())
    return name


def _appears(file: Any) -> bool:
    """Returns whether a file exists now or within the time after which network file systems show it."""
    until = time.monotonic() + TOKEN_SECONDS
    while not file.exists():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def how_to_resume(workdir: Path) -> str:
    """Returns the last checkpoint of a run and the command that resumes it, as the end of a message."""
    root = storage.home(workdir) / "checkpoints"
    stages = storage.folders(root) if root.exists() else []
    found = [(root / name, int(step)) for name in stages for step in storage.folders(root / name) if step.isdecimal()]
    complete = [(checksums.modified(folder / str(step)), folder.name, step) for folder, step in found
                if checksums.exists(folder / str(step))]  # fmt: skip
    last = "{1}, update {2}".format(*max(complete)) if complete else "none yet"
    return f"last checkpoint: {last}; to resume: python -m srgan_jax.main --workdir {workdir}"


def upload(workdir: Path, attempts: int = 1) -> None:
    """Uploads what changed in the folder of a run in a bucket, in process 0; a failure is reported.

    Before a checkpoint it is called first, so that the log in the bucket has all lines before each checkpoint.
    """
    for attempt in range(attempts if jax.process_index() == 0 else 0):
        if not (reason := storage.push(workdir)):
            return
        messages.report(f"WARNING: files of {workdir} can't be uploaded ({reason}); they are uploaded later")
        time.sleep(UPLOAD_SECONDS if attempt + 1 < attempts else 0)


def _lock(workdir: Path, held: contextlib.ExitStack) -> None:
    workdir.mkdir(parents=True, exist_ok=True)
    if (home := storage.home(workdir)) is not workdir:
        _record_start(home / "lock", held)
        return
    if fcntl is None:
        return
    file = held.enter_context(open(workdir / "lock", "a+", opener=atomic.no_follow))  # noqa: SIM115, the kernel unlocks it
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise UserError(
            f"{workdir} is in use by {file.read().strip() or 'another run'}; wait for it, stop it, or use another "
            "--workdir"
        ) from None
    except OSError as error:
        messages.report(f"WARNING: {workdir} can't be locked ({error.strerror}); make sure that no second run uses it")
        return
    file.truncate(0)
    file.write(_this_process())
    file.flush()
    held.callback(file.truncate, 0)


def _this_process() -> str:
    start_time = datetime.datetime.now(datetime.UTC).isoformat(" ", "seconds")
    return f"process {os.getpid()} on {socket.gethostname()} since {start_time}\n"


def _record_start(record: Any, held: contextlib.ExitStack) -> None:
    """Records the run that uses a folder of a bucket, where nothing can be locked; reports an earlier record."""
    if record.exists():
        messages.report(
            f"WARNING: {record.parent} is in use by {record.read_text().strip()}, or that run was killed; a bucket has "
            "no locks: make sure that no other run uses it"
        )
    record.write_text(_this_process())
    held.callback(record.unlink, missing_ok=True)


def finished_steps(file: Path) -> int:
    """Returns the number of updates of a stage's final weights; -1 if there are none."""
    return processes.on_first_process(lambda: int(weights.read_header(file).get("steps", -1)) if file.exists() else -1)


def check_later_stages(workdir: Path, names: Sequence[str], name: str) -> None:
    """Raises UserError if a stage after `name` is finished: it started from weights that will now change."""
    for later in list(names)[list(names).index(name) + 1 :]:
        if processes.on_first_process((workdir / f"{later}.safetensors").exists):
            raise UserError(
                f"{later}.safetensors in {workdir} was trained from an earlier {name}, which is not finished; use "
                f"another --workdir, or delete {later}.safetensors and {workdir / 'checkpoints' / later}"
            )


def check_same_run(
    workdir: Path,
    generator: Mapping[str, object],
    stage_names: Sequence[str],
    init_from: str,
    discriminator_init_from: str = "",
) -> None:
    """Checks that a config continues the run in `workdir`, if that has trained anything.

    Args:
      workdir: folder of the run.
      generator: architecture of the generator, all fields.
      stage_names: as in the config.
      init_from: as in the config.
      discriminator_init_from: as in the config.

    Raises:
      UserError: the config has another generator or other initial weights, or lacks a stage that was trained.
    """
    starts = {"init_from": (init_from, COPY), "discriminator_init_from": (discriminator_init_from, DISCRIMINATOR_COPY)}
    processes.on_first_process(lambda: _check_same_run(workdir, generator, stage_names, starts))


def _check_same_run(
    workdir: Path,
    generator: Mapping[str, object],
    stage_names: Sequence[str],
    starts: Mapping[str, tuple[str, str]],
) -> None:
    file = workdir / "config.json"
    before: PyTree = recorded.read_config(workdir) if file.exists() else {"stage_names": []}
    trained = before["stage_names"]
    while trained and not _is_trained(workdir, trained[-1]):
        trained = trained[:-1]
    if not trained:
        return
    fields = select_keys(find_generator(before["generator"]["name"]), before["generator"], RunConfig().generator)
    previous = models.architecture_of(models.GENERATORS, models.build(models.GENERATORS, fields))
    changed = [(f"generator.{key}", *values) for key, *values in architecture_differences(previous, generator)]
    names = list(stage_names)
    changed += [("stage_names", trained, names)] if names[: len(trained)] != trained else []
    for key, (value, copy) in starts.items():
        start = before.get(key, "")
        changed += [(key, start, value)] if start != value and not is_same(value, workdir / copy) else []
    if changed:
        listed = ", ".join(f"config.{key}={old!r} (now {new!r})" for key, old, new in changed)
        raise UserError(f"{workdir} was trained with {listed}; write the earlier values, or use another --workdir")


def _is_trained(workdir: Path, name: str) -> bool:
    """Returns whether a stage has final weights or a checkpoint."""
    saved = any(path.name.isdigit() for path in (storage.home(workdir) / "checkpoints" / name).glob("*"))
    return saved or (workdir / f"{name}.safetensors").exists()


def check_was_trained(name: str, health: nonfinite.Health, step: int) -> None:
    """Raises UserError if all updates up to `step` were skipped."""
    if int(health.in_a_row) >= step:
        raise UserError(
            f"{name}: none of {step} updates was finite, so the weights are unchanged; {DIVERGENCE_ADVICE.format(name)}"
        )
