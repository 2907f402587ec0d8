"""Tests that all processes of a job end when one is killed, raises an exception, or has another folder."""

import signal
import time
from typing import Any

import helpers
import pytest
import test_processes as jobs

from srgan_jax.runtime import peers

HEARTBEAT_S = 10  # on a busy machine, a process may send no heartbeat for some seconds
CONFIG = """
import jax
from srgan_jax.data import sources
from srgan_jax.recipes import srgan_mse

def broken(*arguments):
    if jax.process_index() == {process}:
        raise TypeError("not readable")
    return sources.open_memory(*arguments)

sources.SOURCES["broken"] = broken
get_config = srgan_mse.get_config
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def command(dataset):
    def make(workdir, **more):
        values = {
            "data.dataset": dataset, "data.batch_size": 2, "validation.hold_out": 0, "stage_names": "('pretrain',)",
            "stages.pretrain.total_steps": 1_000_000, "save_every_steps": 4, "validate_every_steps": 1_000_000,
            "sample_pictures": 0, "data.source": "stream", "loggers": "()", "log_every_steps": 100,
        }  # fmt: skip
        return helpers.command(workdir, **(values | more))

    return make


def _start(command, **options):
    more: dict[str, Any] = {peers.HEARTBEAT_VARIABLE: str(HEARTBEAT_S)}
    return jobs._start_job(command, 2, **options, **more)


def _only_error(text):
    """Returns the line of the error; fails if there is a second error, a traceback, or a C++ stack."""
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in text and "stack trace" not in text and "absl" not in text, text
    return errors[0]


@pytest.mark.parametrize("killed", [0, 1])
def test_when_a_process_is_killed_the_other_names_the_last_checkpoint_and_the_command(killed, command, tmp_path):
    started = _start(command(tmp_path))
    jobs._wait_for(tmp_path / "checkpoints" / "pretrain" / "4" / "manifest.sha256", started)
    began = time.monotonic()
    started[killed].kill()
    statuses, _, errors = jobs._finish(started)
    assert time.monotonic() - began < 3 * HEARTBEAT_S
    assert statuses[killed] == -signal.SIGKILL and statuses[1 - killed] == peers.LOST == 75, errors
    line = _only_error(errors[1 - killed])
    assert f"process {killed}" in line and "last checkpoint: pretrain, update " in line
    assert line.endswith(f"; to resume: python -m srgan_jax.main --workdir {tmp_path}")


@pytest.mark.parametrize("process", [0, 1])
def test_an_exception_in_a_process_ends_all(process, command, tmp_path):
    file = tmp_path / "config.py"
    file.write_text(CONFIG.format(process=process))
    arguments = command(tmp_path / "run", **{"data.source": "broken"})
    arguments[arguments.index("configs/srgan_mse.py")] = str(file)
    statuses, _, errors = jobs._finish(_start(arguments))
    assert statuses == [1, 1], errors
    assert "TypeError: not readable" in errors[process] and "Traceback" in errors[process]
    assert f"process {process} of 2 has ended: TypeError: not readable" in _only_error(errors[1 - process])


def test_processes_with_different_folders_end_at_once(command, tmp_path):
    each = lambda number: ["--workdir", str(tmp_path / f"run{number}")]  # noqa: E731
    statuses, _, errors = jobs._finish(_start(command(tmp_path / "run"), each=each))
    assert statuses == [2, 2], errors
    for number, text in enumerate(errors):
        line = _only_error(text)
        assert f"--workdir={tmp_path}/run{number}: expected one folder for all processes" in line
        assert "isn't seen by process 1 on " in line and line.endswith("all machines mount, or gs://BUCKET/PATH")
    assert not any((tmp_path / "run0").glob(".job-*"))
