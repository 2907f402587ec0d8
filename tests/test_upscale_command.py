"""Tests of the command line of `srgan-jax upscale`: sizes, streams, failures in every step, signals, names."""

import io
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import srgan_jax
from srgan_jax import bulk, cli, images
from srgan_jax.bulk import failures, planning, records, run, writer
from srgan_jax.inference import chain, tiler
from srgan_jax.runtime import terminal


@pytest.fixture
def here(tmp_path, monkeypatch, photo):
    """The current folder, with three images."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("abc"):
        Image.fromarray(photo[: 20 + number, :30]).save(f"{name}.png")
    return tmp_path


def _run(capsys, *args):
    status = cli.main(["upscale", *map(str, args)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


# ------------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("options", "size", "result"),
    [  # sizes are (height, width)
        ({"height": 100}, (20, 30), (100, 150)),
        ({"short_side": 60}, (20, 30), (60, 90)),
        ({"short_side": 60}, (30, 20), (90, 60)),
        ({"long_side": 60}, (20, 30), (40, 60)),
        ({"fit": "64x32"}, (20, 30), (32, 64)),
        ({}, (20, 30), (80, 120)),
    ],
)
def test_sizes_of_results(options, size, result):
    assert bulk.target_size(4, **options)(*size) == result


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fit": "4k"}, "--fit 4k: expected WIDTHxHEIGHT in pixels, for instance 3840x2160"),
        ({"pad": True}, "--pad needs --fit"),
        ({"height": 9, "width": 9}, "got --width 9, --height 9"),
        ({"height": 0}, "--height 0: expected more than 0"),
    ],
)
def test_sizes_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        bulk.target_size(4, **options)


@pytest.mark.parametrize("options", [{"scale": 1e6}, {"width": 2_000_000}, {"fit": "1000000x1"}])
def test_results_beyond_memory_are_refused(capsys, here, weights, options):
    size_of = bulk.target_size(2, **options)
    summary = bulk.upscale_files(bulk.find_jobs(["a.png"], "out"), srgan_jax.load(weights), size_of)
    ((path, reason),) = summary.failed
    assert str(path) == "a.png" and not Path("out").exists()
    assert "pixels; expected at most 1,048,576 a side, and 65,536 megapixels (see --scale and --max-pixels)" in reason


def test_fit_crops_in_the_middle_or_adds_borders(capsys, here, weights):
    """An image of 20 x 30 whose left, middle and right thirds have different colours; to 40 x 20 and 40 x 80."""
    thirds = np.repeat(np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8), 10, axis=0)
    Image.fromarray(np.repeat(thirds[None], 20, axis=0)).save("t.png")
    assert _run(capsys, "t.png", "-o", "crop.png", "--fit", "20x40", "--weights", weights)[0] == 0
    crop = images.read_image("crop.png").frames[0]
    assert crop.shape == (40, 20, 3) and (crop[:, 2:-2] == [0, 255, 0]).all()
    assert _run(capsys, "t.png", "-o", "pad.png", "--fit", "80x40", "--pad", "--weights", weights)[0] == 0
    pad = images.read_image("pad.png").frames[0]
    assert pad.shape == (40, 80, 3) and not pad[:, :10].any() and not pad[:, 70:].any()
    whole = srgan_jax.upscale_tiled(srgan_jax.load(weights), images.read_image("t.png").frames[0])
    np.testing.assert_array_equal(pad[:, 10:70], whole)


def test_a_second_pass_of_the_network(capsys, here, weights, bilinear):
    """Scale 4 by a network of scale 2 is the network twice; scale 3 is the network once, then bicubic."""
    status, _, error = _run(capsys, "a.png", "-o", "four.png", "--scale", "4", "--weights", weights)
    assert status == 0 and "a.png: the network is applied twice (x4)\n" in error
    twice = srgan_jax.upscale(bilinear, srgan_jax.upscale(bilinear, images.read_image("a.png").frames[0] / 255.0))
    difference = images.read_image("four.png").frames[0] / 255.0 - twice
    assert np.abs(difference).max() < 0.6 / 255  # rounding to uint8, and to 16 bits in between
    error = _run(capsys, "a.png", "-o", "three.png", "--scale", "3", "--weights", weights)[2]
    assert "a.png: the network is applied once (x2), then bicubic interpolation to the requested size\n" in error
    assert bulk.target_size(4, scale=8).passes(9, 9) == 2 and bulk.target_size(4, scale=32).passes(9, 9) == 3
    assert bulk.target_size(4, scale=7.9).passes(9, 9) == bulk.target_size(1, scale=9).passes(9, 9) == 1


# ------------------------------------------------------------------------------- one boundary around each file


def _raises(*args, **kwargs):
    raise AttributeError("a fault of a library")


@pytest.mark.parametrize(
    ("module", "step"),
    [
        (images, "image_size"),
        (images, "decode_image"),
        (images, "fit_format"),
        (images, "write_image"),
        (images, "resize_rows"),
        (records, "file_digest"),
        (records, "add_record"),
        (planning.Names, "resolve"),
        (chain, "from_array"),
        (writer.Progress, "skip"),
    ],
)
def test_an_exception_in_any_step_is_the_failure_of_one_file(capsys, here, weights, monkeypatch, module, step):
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    original, calls = getattr(module, step), []

    def of_the_second(*args, **kwargs):
        calls.append(args)
        shown = str(args) + str(kwargs) + str([a.shape for a in args if isinstance(a, np.ndarray)])
        return (
            _raises()
            if "b.png" in shown or "(21, 30, 3)" in shown or "(42, 60, 3)" in shown
            else original(*args, **kwargs)
        )

    monkeypatch.setattr(module, step, of_the_second)
    status, printed, _ = _run(capsys, "a.png", "b.png", "c.png", "-o", "out", "--weights", weights)
    if step == "skip":  # is called for files that fail only
        assert status == 0 and not calls
        return
    assert calls and status == 1 and printed.startswith("2 upscaled into out, 1 failed:\n  b.png: ")
    assert "AttributeError: a fault of a library (traceback in " in printed
    assert sorted(os.listdir("out")) == [".srgan_jax.jsonl", "a.png", "c.png"]
    log = failures.log_file().read_text()
    assert log.count("Traceback") >= 1 and "'b.png'" in log and "in _raises" in log


def test_network_errors_of_one_file_do_not_end_the_others(here, bilinear, monkeypatch):
    """The image that fails is found by trying those that were in the network again, each alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    for number in range(8):
        images.write_image(f"in/{number}.png", np.full((9 + number, 9, 3), 10 * number, np.uint8))
    original = tiler.Tiler._trim_overlap

    def fails(self, tile, rows, columns):
        return _raises() if tile.shape[0] == 2 * (9 + 4) else original(self, tile, rows, columns)

    monkeypatch.setattr(tiler.Tiler, "_trim_overlap", fails)
    jobs = bulk.find_jobs(["in"], "out")
    summary = bulk.upscale_files(jobs, bilinear, bulk.target_size(2), tile_px=32, report=lambda line: None)
    assert [str(path) for path, _ in summary.failed] == ["in/4.png"]
    assert sorted(job.source.name for job in summary.done) == [f"{n}.png" for n in range(8) if n != 4]


# ------------------------------------------------------------------------------------- streams, names, summary


def test_dry_run_names_the_files_to_the_letter(capsys, here, weights, monkeypatch, photo):
    """Files of one name, a still GIF, a format that is too small, a file in the way, a result that is done."""
    for name in ("d/a.png", "e/a.png", "e/s.gif", "e/a.jpg"):
        os.makedirs(os.path.dirname(name), exist_ok=True)
        Image.fromarray(photo[:9, :9]).save(name)
    Image.fromarray(photo[:2, :1] * 0).resize((9000, 2)).save("e/wide.webp")  # WebP holds 16,383 pixels a side
    os.mkdir("out")
    for name in ("b.png", "wide.png"):
        Image.fromarray(photo[:9, :9]).save(f"out/{name}")
    args = ("a.png", "b.png", "d", "e", "-o", "out", "--weights", weights)
    assert _run(capsys, "a.png", "-o", "out", "--weights", weights)[0] == 0
    before = set(os.listdir("out"))
    status, printed, _ = _run(capsys, *args, "--dry-run")
    named = {line.split(" -> out/")[1].split(" ")[0] for line in printed.splitlines() if " -> " in line}
    assert status == 0 and set(os.listdir("out")) == before
    assert _run(capsys, *args)[0] == 0
    assert named == set(os.listdir("out")) - before
    assert named == {"b_2.png", "a_d.png", "a_e.png", "s.png", "a.jpg", "wide_2.png"}


def test_images_and_weights_on_standard_streams(capsys, here, weights, monkeypatch):
    stdout, content = sys.stdout, (here / "a.png").read_bytes()

    def run_with(data, *args):
        out = io.BytesIO()
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(data), isatty=lambda: False))
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, write_through=True))
        status = cli.main(["upscale", *args])
        monkeypatch.setattr(sys, "stdout", stdout)
        return status, out.getvalue()

    status, result = run_with(content, "-", "--weights", weights)
    assert status == 0 and Image.open(io.BytesIO(result)).size == (60, 40)
    assert "1 upscaled to stdout" in capsys.readouterr().err
    status, result = run_with(content, "a.png", "-o", "-", "--format", "jpg", "--weights", weights)
    assert status == 0 and Image.open(io.BytesIO(result)).format == "JPEG"
    images.write_image("a.jxl", images.read_image("a.png"))  # Pillow doesn't read it
    status, result = run_with((here / "a.jxl").read_bytes(), "-", "--weights", weights)
    assert status == 0 and images.read_image(io.BytesIO(result)).shape == (40, 60, 3)
    assert images.kind_of_path(io.BytesIO(result)).name == "JXL"
    status, _ = run_with(Path(weights).read_bytes(), "a.png", "-o", "w.png", "--weights", "-")
    assert status == 0 and images.image_size("w.png") == (40, 60)
    for args, message in (
        (("-", "a.png"), "- (stdin) holds one file"),
        (("a.png", "b.png", "-o", "-"), "-o - is for one image, got 2"),
    ):
        assert run_with(content, *args)[0] == 2
        assert message in capsys.readouterr().err


def test_options_of_realesrgan_ncnn_vulkan(capsys, here, weights):
    args = ("-i", "a.png", "-o", "out.png", "-s", "2", "-n", weights, "-t", "0", "-j", "1:2:2", "-x", "-f", "")
    assert _run(capsys, *args)[0] == 0
    for option, answer in (("-m", "--weights FOLDER/NAME.pth"), ("-g", "CUDA_VISIBLE_DEVICES=0")):
        with pytest.raises(SystemExit):
            cli.main(["upscale", "a.png", option, "0"])
        assert answer in capsys.readouterr().err


def test_folders_that_look_like_files_and_files_that_look_like_options(capsys, here, weights):
    for out in ("St. Petersburg/", "St. Petersburg", "2024.12", "photos.png/", "v1.x/"):
        status = _run(capsys, "a.png", "-o", out, "--weights", weights, "--overwrite")[0]
        assert (status, sorted(os.listdir(out))) == (0, [".srgan_jax.jsonl", "a.png"]), out
    assert "for a folder of this name, write -o v2.x/" in _run(capsys, "a.png", "-o", "v2.x", "--weights", weights)[2]
    os.rename("b.png", "-spot.png")
    for name in ("-spot.png", "-missing.png"):
        with pytest.raises(SystemExit):
            cli.main(["upscale", name, "-o", "x", "--weights", weights])
        assert f"write ./{name}" in capsys.readouterr().err
    assert _run(capsys, "./-spot.png", "-o", "x", "--weights", weights)[0] == 0


def test_names_and_headers_do_not_control_the_terminal(capsys, here, bilinear):
    (here / "e\x1b[31mvil\nerror: false\u202e.png").write_text("no image")
    srgan_jax.save("w.safetensors", bilinear, {"purpose": "\x1b]0;title\x07\x9b2J", "licence": "a\nerror: false"})
    status, printed, _ = _run(capsys, *(name for name in os.listdir() if name.startswith("e")), "-o", "x")
    assert status == 1 and "  e\\x1b[31mvil\\nerror: false\\u202e.png: not an image" in printed
    cli.main(["info", "w.safetensors"])
    printed += capsys.readouterr().out
    assert "purpose: \\x1b]0;title\\x07\\x9b2J" in printed and "licence: a\\nerror: false" in printed
    assert not terminal.CONTROL.search(printed) and "\nerror" not in printed


def test_the_summary_has_time_and_speed_and_the_bar_begins_with_the_total(capsys, here, weights, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    error = _run(capsys, "a.png", "b.png", "-o", "out", "--weights", weights)[2]
    assert "0.00123 megapixels in " in error  # 20 * 30 + 21 * 30 pixels
    assert "0.00 of 0.00 megapixels" in error and "of 1.0 megapixels" not in error


def test_ctrl_c_says_what_is_done(capsys, here, weights, monkeypatch):
    original = writer.Writer.write

    def stop(self, task, *args):
        if task.job.source.name == "b.png":
            raise KeyboardInterrupt
        return original(self, task, *args)

    monkeypatch.setattr(run.Writer, "write", stop)
    args = ("a.png", "b.png", "c.png", "-o", "out", "--weights", weights)
    status, _, error = _run(capsys, *args)
    assert status == 130 and "interrupted: 1 of 3 files are done after " in error
    assert "the same command continues with the others" in error
    monkeypatch.setattr(run.Writer, "write", original)
    assert _run(capsys, *args)[1].startswith("2 upscaled into out, 1 skipped")


# ----------------------------------------------------------------------------------------- two runs at a time


@pytest.mark.slow
def test_two_runs_in_one_folder_and_one_of_them_killed(weights, photo, tmp_path):
    """Both end with status 0; after a kill every file is whole, nothing is left over, and the next run completes it."""
    (tmp_path / "in").mkdir()
    for number in range(20):
        Image.fromarray(photo[: 60 + number, :80]).save(tmp_path / "in" / f"{number}.png")
    command = [sys.executable, "-m", "srgan_jax.cli", "upscale", "in", "-o", "out", "--weights", weights]
    start = lambda: subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # noqa: E731
    first, second = start(), start()
    for process in (first, second):
        printed = process.communicate()[0].decode()
        assert process.returncode == 0, printed
    names = sorted(os.listdir(tmp_path / "out"))
    assert names == sorted([".srgan_jax.jsonl", *(f"{number}.png" for number in range(20))])
    for path in (tmp_path / "out").glob("[!.]*"):
        path.unlink()
    first, second = start(), start()
    while not list((tmp_path / "out").glob("[!.]*")):
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    printed = second.communicate()[0].decode()
    assert second.returncode == 0, printed
    (tmp_path / "out" / ".partial-0123456789abcdef-0.png").touch()  # as a killed process may leave it
    third = start()
    assert third.communicate()[0] and third.returncode == 0
    assert sorted(os.listdir(tmp_path / "out")) == names
    for number in range(20):
        assert images.read_image(tmp_path / "out" / f"{number}.png").shape == (2 * (60 + number), 160, 3)
