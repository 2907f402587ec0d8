"""The folder of a run and its end: who holds it, what is finished in it, how a run is told to stop."""

import contextlib
import datetime
import json
import os
import shutil
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from srgan_jax import devices, guard, logs, models, stages, weights
from srgan_jax.errors import UserError

try:
    import fcntl
except ImportError:  # Windows, where nothing trains: see data.builder
    fcntl = None

MIN_CHECKPOINTS = 3
COUNTS = {  # keys of the config, and the least that each can be
    "data.batch_size": 1,
    "data.tile_px": 1,
    "data.resize_px": 0,
    "data.threads": 0,
    "generator.scale": 1,
    "generator.width": 1,
    "generator.blocks": 0,
    "discriminator.width": 1,
    "validation.hold_out": 0,
    "guard.max_skips": 1,
    "guard.d_wins_steps": 0,
    "guard.max_rollbacks": 0,
    "steps_per_call": 1,
    "log_every_steps": 1,
    "validate_every_steps": 1,
    "save_every_steps": 1,
    "show_every_steps": 0,
    "sample_pictures": 0,
}
STAGE_COUNTS = {"total_steps": 1, "warmup_steps": 0}
ADVICE = (
    "try a lower learning rate, gradient clipping (--config.stages.{}.clip_norm=1.0), or --debug_nans to see where it "
    "begins"
)


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
    if fcntl is None:
        return
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


def refuse_another_run(workdir: Path, config: Any) -> None:
    """Whether the config is that of the run in `workdir`, where that has trained something.

    Raises:
      UserError: the config has another generator, another start, or leaves out a stage that is trained.
    """
    devices.on_first(lambda: _refuse_another_run(workdir, config))


def _refuse_another_run(workdir: Path, config: Any) -> None:
    file = workdir / "config.json"
    before = json.loads(file.read_text()) if file.exists() else {"stage_names": []}
    began = before["stage_names"]
    while began and not _is_trained(workdir, began[-1]):
        began = began[:-1]
    if not began:
        return
    then, now = (
        models.architecture_of(models.GENERATORS, models.build(models.GENERATORS, description))
        for description in (before["generator"], config.generator)
    )
    changed = [(f"generator.{key}", *values) for key, *values in stages.differing(then, now)]
    names, start = list(config.stage_names), before.get("init_from", "")
    changed += [("stage_names", began, names)] if names[: len(began)] != began else []
    changed += [("init_from", start, config.init_from)] if start != config.init_from else []
    if changed:
        listed = ", ".join(f"config.{key}={old!r} (now {new!r})" for key, old, new in changed)
        raise UserError(f"{workdir} was trained with {listed}; give that again, or use another --workdir")


def _is_trained(workdir: Path, name: str) -> bool:
    """Whether a stage has published weights, or a checkpoint."""
    saved = any(path.name.isdigit() for path in (workdir / "checkpoints" / name).glob("*"))
    return saved or (workdir / f"{name}.safetensors").exists()


def refuse_untrained(name: str, health: guard.Health, step: int) -> None:
    """Raises UserError where no update up to `step` was applied; going back leads to one that was, or to the first."""
    if int(health.in_a_row) >= step:
        raise UserError(f"{name}: none of {step} updates was finite, so nothing was trained; {ADVICE.format(name)}")


def check_counts(config: Any) -> None:
    """Raises UserError where the config has less of something than there can be."""
    for key, least in COUNTS.items():
        section, _, field = key.rpartition(".")
        _check_count(key, (config[section] if section else config).get(field, least), least)


def _check_count(key: str, value: int, least: int) -> None:
    if value < least:
        raise UserError(f"config.{key}={value}: expected {least} or more")


def check_intervals(config: Any) -> None:
    """Raises UserError where steps_per_call doesn't divide what happens between calls, or too little is kept."""
    intervals = {name: config[name] for name in ("log_every_steps", "validate_every_steps", "save_every_steps")}
    for name in config.stage_names:
        for field, least in STAGE_COUNTS.items():
            _check_count(f"stages.{name}.{field}", config.stages[name][field], least)
        intervals[f"stages.{name}.total_steps"] = config.stages[name].total_steps
    count = config.steps_per_call
    for key, value in intervals.items():
        if value % count:
            nearest = max(1, round(value / count)) * count
            raise UserError(f"config.{key}={value} is no multiple of config.steps_per_call={count}; {nearest} is")
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
