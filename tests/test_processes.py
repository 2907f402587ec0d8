"""Tests that two processes on this machine, joined by `jax.distributed`, train as one process with two devices."""

import os
import signal
import socket
import subprocess
import sys
import time

import helpers
import jax
import numpy as np
import pytest

import srgan_jax
from srgan_jax import images
from srgan_jax.runtime.errors import UserError
from srgan_jax.runtime.processes import check_semaphores, start_cluster
from srgan_jax.training.mapping import MAPPINGS

TIMEOUT_S = 500  # as the machine may be busy
pytestmark = pytest.mark.timeout(3 * TIMEOUT_S)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _start_job(command, processes, devices_each=1, each=lambda number: [], **environment):
    """Starts the processes of one job; `each` returns further arguments of a process."""
    coordinator = f"127.0.0.1:{_free_port()}"
    job = lambda number: [f"--coordinator={coordinator}", f"--num_processes={processes}", f"--process_id={number}"]  # noqa: E731
    options = {"cwd": helpers.ROOT, "env": helpers.environment(devices_each) | environment, "text": True}
    return [
        subprocess.Popen(command + each(number) + (job(number) if processes > 1 else []), stderr=subprocess.PIPE,
                         stdout=subprocess.PIPE, **options) for number in range(processes)
    ]  # fmt: skip


def _finish(started):
    """Waits for processes; returns their exit statuses, standard outputs and standard errors."""
    outputs = [process.communicate(timeout=TIMEOUT_S) for process in started]
    return [process.returncode for process in started], *zip(*outputs, strict=True)


@pytest.fixture(scope="module")
def command(dataset, validation_folder):
    def make(workdir, mapping):
        values = {
            "data.dataset": dataset, "data.batch_size": 4, "validation.folder": validation_folder,
            "devices.mapping": mapping, "stage_names": "('gan',)", "stages.gan.total_steps": 60, "save_every_steps": 4,
            "validate_every_steps": 20, "sample_pictures": 1,
        }  # fmt: skip
        return helpers.command(workdir, **values)

    return make


@pytest.fixture(scope="module", params=MAPPINGS)
def one_process(request, tmp_path_factory, command):
    """The mapping and the folder of an uninterrupted run of one process with two devices."""
    workdir = tmp_path_factory.mktemp(f"one_{request.param}")
    statuses, _, errors = _finish(_start_job(command(workdir, request.param), 1, devices_each=2))
    assert statuses == [0], errors
    return request.param, workdir


def _assert_equal(workdir, expected):
    ours, theirs = (srgan_jax.load(folder, fold=False) for folder in (workdir, expected))
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)  # noqa: E731
    jax.tree.map(close, dict(ours.variables), dict(theirs.variables))
    rows, expected_rows = helpers.read_metrics(workdir), helpers.read_metrics(expected)
    assert [(row["stage"], row["step"], set(row)) for row in rows] == [
        (row["stage"], row["step"], set(row)) for row in expected_rows
    ]
    for row, other in zip(rows, expected_rows, strict=True):
        for key in set(row) - {"stage", "step"}:
            assert row[key] == pytest.approx(other[key], rel=1e-4, abs=1e-6), (row["stage"], row["step"], key)


def _wait_for(file, started):
    while not file.exists():
        assert all(process.poll() is None for process in started), _finish(started)
        time.sleep(0.01)


@pytest.mark.slow
def test_two_processes_equal_one_and_resume_each_others_runs(one_process, command, tmp_path):
    """SIGTERM to the second process alone makes both save; one process resumes; then two resume again."""
    mapping, expected = one_process
    arguments = command(tmp_path, mapping)
    started = _start_job(arguments, 2)
    _wait_for(tmp_path / "checkpoints" / "gan" / "8" / "manifest.sha256", started)
    started[1].send_signal(signal.SIGTERM)
    statuses, _, errors = _finish(started)
    assert statuses == [143, 143], errors
    assert "2 processes" in errors[0] and "gan: saved after update" in errors[0] and "devices" not in errors[1]
    newest = max(int(path.name) for path in (tmp_path / "checkpoints" / "gan").iterdir())

    started = _start_job(arguments, 1, devices_each=2)
    later = 4 * (newest // 4 + 3)
    _wait_for(tmp_path / "checkpoints" / "gan" / str(later) / "manifest.sha256", started)
    started[0].kill()
    statuses, _, errors = _finish(started)
    assert statuses == [-9] and f"gan: resumed after update {newest}" in errors[0]

    statuses, _, errors = _finish(_start_job(arguments, 2))
    assert statuses == [0, 0], errors
    assert f"gan: resumed after update {later}" in errors[0]
    _assert_equal(tmp_path, expected)


@pytest.mark.slow
def test_an_error_ends_every_process_of_a_job(command, tmp_path):
    """The error is a work folder that is in use."""
    from srgan_jax.training.workdir import locked

    with locked(tmp_path):
        statuses, _, errors = _finish(_start_job(command(tmp_path, "jit"), 2))
    assert statuses == [2, 2]
    for text in errors:
        assert f"in use by process {os.getpid()} on" in text and "Traceback" not in text


@pytest.mark.slow
def test_evaluate_divides_its_images_among_processes(validation_folder, tmp_path):
    """Two processes score different images, and print one table: that of one process."""
    command = [sys.executable, "-m", "srgan_jax.cli", "evaluate", "--data", validation_folder]
    # Other sizes of canvases change the rounding of sums, by 6e-8 in an SSIM, unless XLA's optimisations are off.
    flags = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
    statuses, tables, errors = _finish(_start_job([*command, "--out", str(tmp_path / "two")], 2, **flags))
    assert statuses == [0, 0], errors
    alone, expected, _ = _finish(_start_job([*command, "--out", str(tmp_path / "one")], 1, **flags))
    assert alone == [0] and "bicubic" in expected[0]
    tables = ["".join(line for line in table.splitlines(True) if "[Gloo]" not in line) for table in tables]
    assert tables[0].replace("two", "one") == expected[0] and tables[1] == ""
    assert (tmp_path / "two" / "pictures.csv").read_text() == (tmp_path / "one" / "pictures.csv").read_text()


@pytest.mark.slow
def test_upscale_divides_its_files_among_processes(validation_folder, tmp_path, bilinear):
    """Two processes upscale different files of one folder, on their own devices."""
    srgan_jax.save(tmp_path / "bilinear.safetensors", bilinear)
    command = [sys.executable, "-m", "srgan_jax.cli", "upscale", validation_folder, "-o", str(tmp_path / "out")]
    statuses, printed, errors = _finish(_start_job([*command, "--weights", str(tmp_path / "bilinear.safetensors")], 2))
    assert statuses == [0, 0], errors
    lines = [[line for line in text.splitlines() if "upscaled" in line] for text in printed]
    assert [line for (line,) in lines] == [
        f"2 upscaled into {tmp_path / 'out'}",
        f"1 upscaled to {tmp_path / 'out' / '1.png'}",
    ]
    results = sorted((tmp_path / "out").glob("[!.]*"))  # without the hidden record of what is done
    assert [path.name for path in results] == ["0.png", "1.png", "2.png"]
    for path in results:
        height, width = images.image_size(os.path.join(validation_folder, path.name))
        assert images.image_size(path) == (2 * height, 2 * width)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"coordinator": "127.0.0.1:1"}, "expected all of --coordinator HOST:PORT, --num_processes and --process_id"),
        ({"num_processes": 2, "process_id": 0}, "or none of them"),
        ({"coordinator": "here", "num_processes": 2, "process_id": 0}, "expected --coordinator HOST:PORT"),
        ({"coordinator": "h:1", "num_processes": 2, "process_id": 2}, "0 <= --process_id < --num_processes"),
    ],
)
def test_incomplete_cluster_flags_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        start_cluster(**flags)


def test_start_cluster_is_fast_without_a_cluster():
    """In its own process, as the tests' process has initialised JAX already."""
    code = """
import time
from srgan_jax.runtime import processes as devices
import jax
began = time.time()
devices.start_cluster()
devices.start_cluster("none")
print(time.time() - began < 0.5, jax.process_count(), devices.process_slice([1, 2]), devices.gather("x"))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=helpers.environment())
    assert result.stdout.split("\n")[0] == "True 1 [1, 2] ['x']", result.stderr


def test_a_system_without_semaphores_is_reported_in_one_line(monkeypatch):
    """As where /dev/shm is read-only."""

    def refuse(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", refuse)
    with pytest.raises(UserError, match=r"\(Read-only file system\); training needs a writable /dev/shm"):
        check_semaphores()
