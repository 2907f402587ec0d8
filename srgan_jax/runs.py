"""The folder of a run and its end: who holds it, what is finished in it, how a run is told to stop."""

import contextlib
import datetime
import fcntl
import os
import shutil
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from srgan_jax import devices, logs, weights
from srgan_jax.errors import UserError

MIN_CHECKPOINTS = 3


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Makes `workdir` and holds it against a second run, for all processes of this one.

    Raises:
      UserError: another run holds it; the message says who.
    """
    with contextlib.ExitStack() as held:
        devices.on_first(lambda: _lock(workdir, held))
        yield


def _lock(workdir: Path, held: contextlib.ExitStack) -> None:
    workdir.mkdir(parents=True, exist_ok=True)
    file = held.enter_context(open(workdir / "lock", "a+"))  # noqa: SIM115, let go of by the kernel at the end
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise UserError(
            f"{workdir} is in use by {file.read().strip() or 'another run'}; wait for it, stop it, or use another "
            "--workdir"
        ) from None
    except OSError as error:
        logs.say(f"WARNING: {workdir} can't be locked ({error.strerror}); take care that no second run uses it")
        return
    file.truncate(0)
    began = datetime.datetime.now(datetime.UTC).isoformat(" ", "seconds")
    file.write(f"process {os.getpid()} on {socket.gethostname()} since {began}\n")
    file.flush()
    held.callback(file.truncate, 0)


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Notes SIGTERM and Ctrl-C in a list instead of dying, so that the loop can save; a second one kills."""
    received: list[int] = []

    def note(number, frame):
        received.append(number)
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for number in before:
            signal.signal(number, note)
    except ValueError:  # not in the main thread: signals are the caller's
        before = {}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: JAX's own, in the processes of a job


def finished_steps(file: Path) -> int:
    """Updates behind a stage's published weights; -1 where there are none."""
    return devices.on_first(lambda: int(weights.read_header(file).get("steps", -1)) if file.exists() else -1)


def refuse_stale_stages(workdir: Path, names: Sequence[str], name: str) -> None:
    """Raises UserError where a stage after `name` is finished already: it started from weights that will change."""
    for later in list(names)[list(names).index(name) + 1 :]:
        if devices.on_first((workdir / f"{later}.safetensors").exists):
            raise UserError(
                f"{later}.safetensors in {workdir} was trained from an earlier {name}; use another --workdir, or "
                f"delete it and {workdir / 'checkpoints' / later}"
            )


def check_intervals(config: Any) -> None:
    """Raises UserError where steps_per_call doesn't divide what happens between calls, or too little is kept."""
    count = config.steps_per_call
    if count < 1:
        raise UserError(f"config.steps_per_call={count}: expected 1 or more")
    intervals = {f"config.{name}": config[name] for name in ("log_every_steps", "validate_every_steps",
                                                             "save_every_steps")}  # fmt: skip
    intervals |= {f"config.stages.{name}.total_steps": config.stages[name].total_steps for name in config.stage_names}
    for key, value in intervals.items():
        if value < 1:
            raise UserError(f"{key}={value}: expected 1 or more")
        if value % count:
            nearest = max(1, round(value / count)) * count
            raise UserError(f"{key}={value} is no multiple of config.steps_per_call={count}; {nearest} is")
    if config.keep_checkpoints < MIN_CHECKPOINTS:
        raise UserError(
            f"config.keep_checkpoints={config.keep_checkpoints}: expected {MIN_CHECKPOINTS} or more, as the newest may "
            "be damaged or unfinished"
        )


def publish(averaged: weights.Weights, file: Path, provenance: dict[str, str]) -> None:
    """Writes a stage's averaged generator, by process 0."""
    if jax.process_index() == 0:
        weights.save(file, averaged, provenance)
    devices.gather(None)  # no process goes on before it is there


def publish_last(file: Path) -> None:
    """The last stage's weights as `generator.safetensors` beside them: whole or not at all."""
    if jax.process_index() == 0:
        temporary = file.with_name(".generator.safetensors")
        shutil.copyfile(file, temporary)
        temporary.replace(file.with_name("generator.safetensors"))
