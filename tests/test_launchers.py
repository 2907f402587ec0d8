"""Tests of `scripts/cluster` with substitutes for the commands of a cluster: when a job is started again."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

CLUSTER = Path(__file__).parents[1] / "scripts" / "cluster"
pytestmark = pytest.mark.skipif(os.name != "posix", reason="shell scripts")


@pytest.fixture
def substitute(tmp_path, monkeypatch):
    """A function that puts a shell script before the command of that name."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def make(name, script):
        (folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / name).chmod(0o755)

    return make


@pytest.mark.parametrize(
    ("status", "restarts", "requeued"),
    [(0, 0, False), (1, 0, False), (2, 0, False), (75, 0, True), (137, 3, True), (143, 99, True), (143, 100, False)],
)
def test_slurm_requeues_a_job_that_resumes(status, restarts, requeued, substitute, tmp_path):
    substitute("srun", f'echo "$@" > {tmp_path}/srun; exit {status}')
    substitute("scontrol", f'echo "$@" > {tmp_path}/scontrol')
    environment = os.environ | {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": "7", "SLURM_GPUS_ON_NODE": "8"}
    environment |= {"SLURM_NTASKS_PER_NODE": "8", "SLURM_RESTART_COUNT": str(restarts)}
    done = subprocess.run(["bash", str(CLUSTER / "slurm.sh"), "srgan", "/run", "--x=a b"], env=environment)
    assert done.returncode == status
    assert (tmp_path / "srun").read_text().endswith("-m srgan_jax.main --config srgan --workdir /run --x=a b\n")
    assert (tmp_path / "scontrol").exists() == requeued
    if requeued:
        assert (tmp_path / "scontrol").read_text() == "requeue 7\n"


def test_slurm_refuses_another_number_of_processes_than_gpus(tmp_path):
    environment = os.environ | {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_GPUS_ON_NODE": "4"}
    environment["SLURM_NTASKS_PER_NODE"] = "8"
    command = ["bash", str(CLUSTER / "slurm.sh"), "srgan", "/run"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "one process a GPU, --ntasks-per-node=4" in done.stderr


@pytest.mark.parametrize(("statuses", "ended"), [([75, 143, 137, 0], 0), ([75, 2], 2), ([1], 1)])
def test_a_command_is_run_again_until_it_ends_otherwise(statuses, ended, tmp_path):
    (tmp_path / "left").write_text("\n".join(map(str, statuses)))
    command = 'status=$(head -n 1 left); sed -i 1d left; echo "run $status"; exit $status'
    keep = ["bash", str(CLUSTER / "keep_running.sh"), "log", "bash", "-c", command]
    done = subprocess.run(keep, cwd=tmp_path, env=os.environ | {"RESTART_SECONDS": "0"})
    assert done.returncode == ended
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line for line in lines if line.startswith("run")] == [f"run {status}" for status in statuses]
    assert lines[-1] == f"ended with status {ended}"


def test_sigterm_ends_the_command_and_a_second_call_does_nothing(tmp_path):
    command = "trap 'echo saved; exit 143' TERM; echo begun; while true; do sleep 0.05; done"
    keep = ["bash", str(CLUSTER / "keep_running.sh"), "log", "bash", "-c", command]
    started = subprocess.Popen(keep, cwd=tmp_path)
    while "begun" not in ((tmp_path / "log").read_text() if (tmp_path / "log").exists() else ""):
        time.sleep(0.02)
    again = subprocess.run(keep, cwd=tmp_path, capture_output=True, text=True)
    assert (again.returncode, again.stdout) == (0, "already running: log\n")
    started.send_signal(signal.SIGTERM)
    assert started.wait(20) == 143
    assert (tmp_path / "log").read_text() == "begun\nsaved\nended with status 143\n"


def test_a_preempted_tpu_is_made_again_and_the_run_goes_on_without_the_ssh(substitute, tmp_path, monkeypatch):
    """gcloud's substitute runs what ssh would run on a host; the first TPU is gone."""
    home = tmp_path / "home"
    (home / "srgan_jax" / ".venv" / "bin").mkdir(parents=True)
    (home / "srgan_jax" / "scripts").symlink_to(CLUSTER.parent)
    python = home / "srgan_jax" / ".venv" / "bin" / "python"
    python.write_text('#!/bin/bash\necho "$@"; sleep 0.3; exit 0\n')
    python.chmod(0o755)
    substitute(
        "gcloud",
        f"""
case "$*" in
  *describe*) cat {tmp_path}/state ;;
  *delete*) : > {tmp_path}/state ;;
  *ssh*) HOME={home} bash -c "${{@: -1}}" ;;
esac""",
    )
    (tmp_path / "state").write_text("PREEMPTED")
    environment = os.environ | {"TPU": "t", "ZONE": "z", "CREATE": f"echo READY > {tmp_path}/state"}
    environment |= {"PREPARE": f"touch {tmp_path}/prepared", "RETRY_SECONDS": "0"}
    command = ["bash", str(CLUSTER / "tpu_pod.sh"), "srgan", "gs://bucket/run", "--config.seed=3"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.endswith("ended with status 0\n"), done
    assert (tmp_path / "prepared").exists()
    log = (home / "srgan_jax-run" / "log").read_text()
    assert log.startswith("-m srgan_jax.main --config srgan --workdir gs://bucket/run --config.seed=3\n")
    environment["CREATE"] = ""
    (tmp_path / "state").write_text("")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 75 and "error: the TPU t is not there" in done.stderr
