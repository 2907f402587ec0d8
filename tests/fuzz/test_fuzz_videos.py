"""Fuzzing of videos: damaged files of several containers and codecs, read as `srgan-jax upscale` reads them."""

import contextlib
import io
import os
import re
import shutil
from pathlib import Path

import pytest
from harness import fuzz_in_worker, tries
from test_video import _write

import srgan_jax
from srgan_jax import cli
from srgan_jax.images import video_join, video_reader
from srgan_jax.runtime.errors import UserError

LIMITS = video_reader.Limits(1_000_000, 20.0)
CODECS = {"a.mp4": "libx264", "a.mov": "mpeg4", "a.mkv": "libx264", "a.webm": "libvpx-vp9", "a.avi": "mpeg4"}


@pytest.fixture
def samples(tmp_path, photo):
    for name, codec in CODECS.items():
        _write(tmp_path / name, photo, codec=codec, times=[0, 40, 80, 120])
    return sorted(tmp_path.iterdir())


def read(path: Path) -> None:
    """Decodes a video, and reads its other streams."""
    info = video_reader.read_info(path, LIMITS)
    for frame in video_reader.read_frames(path, info, LIMITS):
        assert frame.samples.shape == (*info.size, 3)
    video_join.check_sound(path, Path("result.mp4"), LIMITS)


@pytest.mark.slow
def test_damaged_videos(samples):
    counts = fuzz_in_worker(samples, read, tries(30), seconds=8, most_bytes=384 << 20)
    assert not counts.faults()
    assert counts["accepted"] and counts["refused"]


def upscale(path: Path) -> None:
    """Upscales a video into an empty folder; asserts that a video or nothing comes out, and nothing elsewhere."""
    folder, out = path.parent, path.parent / "out"
    before = {*os.listdir(folder), out.name}
    printed = io.StringIO()
    arguments = [str(path), "-o", f"{out}/", "--weights", str(folder / "weights.safetensors"), "--max-pixels", "1"]
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        status = cli.main(["upscale", *arguments])
    found = [file for file in out.iterdir() if not file.name.startswith(".")] if out.exists() else []
    assert set(os.listdir(folder)) <= before, "files outside the output"
    assert status in (0, 1) and (status == 0) == bool(found), f"status {status}, {len(found)} files"
    assert not re.search("raceback|[a-z]Error: ", printed.getvalue()), printed.getvalue()[-300:]
    for file in found:
        read(file)
    shutil.rmtree(out, ignore_errors=True)
    if status:
        raise UserError("refused")  # as the harness counts it


@pytest.mark.slow
def test_upscaling_of_damaged_videos(samples, tmp_path, bilinear):
    srgan_jax.save(tmp_path / "weights.safetensors", bilinear)
    counts = fuzz_in_worker(samples, upscale, tries(3), seed=1, seconds=60, most_bytes=2 << 30)
    assert not counts.faults()
