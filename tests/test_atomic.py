"""Tests of atomic file writing: temporary names, leftovers, links, kills."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from srgan_jax.runtime import atomic

# Writes the file of its argument again and again: 200,000 bytes of one digit each time.
WRITER = """
import itertools, sys
from srgan_jax.runtime import atomic
print("ready", flush=True)
for number in itertools.count():
    with atomic.atomic_file(sys.argv[1]) as temporary, open(temporary, "w") as file:
        for _ in range(20):
            file.write(10_000 * str(number % 10))
            file.flush()
"""


def _start(path):
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as pipe:
        assert pipe.readline() == b"ready\n"
    return process


def test_temporary_files_are_new_and_their_names_cannot_be_guessed(tmp_path):
    names = set()
    for _ in range(5):
        with atomic.atomic_file(tmp_path / "a.png") as temporary:
            assert temporary.parent == tmp_path and temporary.suffix == ".png" and temporary.stat().st_size == 0
            names.add(temporary.name)
            temporary.write_text("whole")
    assert len(names) == 5 and os.listdir(tmp_path) == ["a.png"]


def test_links_are_replaced_and_not_followed(tmp_path):
    (tmp_path / "outside").write_text("kept")
    (tmp_path / "out").mkdir()
    for name in ("a.txt", ".partial-a.txt"):
        (tmp_path / "out" / name).symlink_to(tmp_path / "outside")
    atomic.write_text(tmp_path / "out" / "a.txt", "new")
    assert (tmp_path / "outside").read_text() == "kept"
    assert (tmp_path / "out" / "a.txt").read_text() == "new" and not (tmp_path / "out" / "a.txt").is_symlink()


def test_leftovers_are_deleted_and_files_in_use_are_kept(tmp_path):
    leftover = tmp_path / ".partial-0123456789abcdef-a.png"
    leftover.write_text("of a killed process")
    linked = tmp_path / ".partial-fedcba9876543210-a.png"
    linked.symlink_to(tmp_path / "outside")
    (tmp_path / "outside").write_text("kept")
    (tmp_path / ".partial-mine.png").write_text("not one of ours")
    with atomic.atomic_file(tmp_path / "a.png") as temporary:
        assert not leftover.exists()
        atomic.delete_leftovers(tmp_path)
        assert temporary.exists()
        temporary.write_text("whole")
    assert sorted(os.listdir(tmp_path)) == sorted([linked.name, ".partial-mine.png", "a.png", "outside"])


def test_long_names_and_names_that_are_not_utf8(tmp_path):
    for name in ("x" * 251 + ".png", os.fsdecode(b"\xff.png"), "é" * 125 + ".png"):
        atomic.write_text(tmp_path / name, "whole")
        assert (tmp_path / name).read_text() == "whole"


def test_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append("sync") or fsync(descriptor))
    monkeypatch.setattr(Path, "replace", lambda path, target: calls.append("rename") or replace(path, target))
    atomic.write_text(tmp_path / "a.txt", "whole")
    assert calls == ["sync", "rename", "sync"]


@pytest.mark.slow
@pytest.mark.skipif(atomic.fcntl is None, reason="leftovers are recognised by POSIX locks")
def test_two_writers_of_one_file_one_of_them_killed(tmp_path):
    """Whoever is killed whenever, the file is whole, and the survivor's temporary file is never deleted."""
    file = tmp_path / "a.txt"
    survivor = _start(file)
    try:
        for _ in range(20):
            victim = _start(file)
            time.sleep(random.uniform(0, 0.02))
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            content = file.read_text()
            assert len(content) == 200_000 and len(set(content)) == 1
        assert survivor.poll() is None
    finally:
        survivor.kill()
        survivor.wait()
    with atomic.atomic_file(file) as temporary:
        temporary.write_text("last")
    atomic.delete_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ["a.txt"]
