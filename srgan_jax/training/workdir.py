"""The folder of a run: who holds it, what is finished in it, and what it publishes."""

import contextlib
import datetime
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jax

from srgan_jax import models, weights
from srgan_jax.config.schema import RunConfig
from srgan_jax.runtime import atomic, messages, processes
from srgan_jax.runtime.errors import UserError
from srgan_jax.runtime.types import PyTree
from srgan_jax.training import nonfinite
from srgan_jax.training.setup import describe, find_generator
from srgan_jax.training.start import differing

try:
    import fcntl
except ImportError:  # Windows, where nothing trains: see data.builder
    fcntl = None


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
        processes.on_first_process(lambda: _lock(workdir, held))
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
        messages.report(f"WARNING: {workdir} can't be locked ({error.strerror}); take care that no second run uses it")
        return
    file.truncate(0)
    began = datetime.datetime.now(datetime.UTC).isoformat(" ", "seconds")
    file.write(f"process {os.getpid()} on {socket.gethostname()} since {began}\n")
    file.flush()
    held.callback(file.truncate, 0)


def finished_steps(file: Path) -> int:
    """Updates behind a stage's published weights; -1 where there are none."""
    return processes.on_first_process(lambda: int(weights.read_header(file).get("steps", -1)) if file.exists() else -1)


def refuse_stale_stages(workdir: Path, names: Sequence[str], name: str) -> None:
    """Raises UserError where a stage after `name` is finished already: it started from weights that will change."""
    for later in list(names)[list(names).index(name) + 1 :]:
        if processes.on_first_process((workdir / f"{later}.safetensors").exists):
            raise UserError(
                f"{later}.safetensors in {workdir} was trained from an earlier {name}; use another --workdir, or "
                f"delete it and {workdir / 'checkpoints' / later}"
            )


def refuse_another_run(
    workdir: Path, generator: Mapping[str, object], stage_names: Sequence[str], init_from: str
) -> None:
    """Whether a config is that of the run in `workdir`, where that has trained something.

    Args:
      workdir: of the run.
      generator: the complete architecture.
      stage_names: of the config.
      init_from: of the config.

    Raises:
      UserError: the config has another generator, another start, or leaves out a stage that is trained.
    """
    processes.on_first_process(lambda: _refuse_another_run(workdir, generator, stage_names, init_from))


def _refuse_another_run(
    workdir: Path, generator: Mapping[str, object], stage_names: Sequence[str], init_from: str
) -> None:
    file = workdir / "config.json"
    before: PyTree = json.loads(file.read_text()) if file.exists() else {"stage_names": []}
    began = before["stage_names"]
    while began and not _is_trained(workdir, began[-1]):
        began = began[:-1]
    if not began:
        return
    described = describe(find_generator(before["generator"]["name"]), before["generator"], RunConfig().generator)
    then = models.architecture_of(models.GENERATORS, models.build(models.GENERATORS, described))
    changed = [(f"generator.{key}", *values) for key, *values in differing(then, generator)]
    names, start = list(stage_names), before.get("init_from", "")
    changed += [("stage_names", began, names)] if names[: len(began)] != began else []
    changed += [("init_from", start, init_from)] if start != init_from else []
    if changed:
        listed = ", ".join(f"config.{key}={old!r} (now {new!r})" for key, old, new in changed)
        raise UserError(f"{workdir} was trained with {listed}; give that again, or use another --workdir")


def _is_trained(workdir: Path, name: str) -> bool:
    """Whether a stage has published weights, or a checkpoint."""
    saved = any(path.name.isdigit() for path in (workdir / "checkpoints" / name).glob("*"))
    return saved or (workdir / f"{name}.safetensors").exists()


def refuse_untrained(name: str, health: nonfinite.Health, step: int) -> None:
    """Raises UserError where no update up to `step` was applied; going back leads to one that was, or to the first."""
    if int(health.in_a_row) >= step:
        raise UserError(f"{name}: none of {step} updates was finite, so nothing was trained; {ADVICE.format(name)}")


def publish(averaged: weights.Weights, file: Path, provenance: dict[str, str]) -> None:
    """Writes a stage's averaged generator, by process 0."""
    if jax.process_index() == 0:
        weights.save(file, averaged, provenance)
    processes.gather(None)  # no process goes on before it is there


def publish_last(file: Path) -> None:
    """Copies the last stage's weights to `generator.safetensors` beside them."""
    if jax.process_index() == 0:
        with atomic.atomic_file(file.with_name("generator.safetensors")) as temporary:
            shutil.copyfile(file, temporary)
