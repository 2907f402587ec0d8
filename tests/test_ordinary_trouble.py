"""Ordinary trouble is an error in one line: damaged files of runs, odd file names, links, large images, clocks."""

import contextlib
import csv
import json
import os
import struct
import time
import zlib

import helpers
import pytest

from srgan_jax import cli, export, images, main
from srgan_jax.config import recorded
from srgan_jax.runtime.errors import UserError
from srgan_jax.training import run_weights, workdir

DAMAGED = ["", "{", "[]", "null", "3", '"a"', "[" * 100_000, "\0", '{"a": ',
           '{"stage_names": 3}', '{"stage_names": []}',
           '{"stage_names": ["a"], "generator": []}', '{"stage_names": ["a"], "generator": {"name": 3}}',
           '{"stage_names": ["a"], "generator": {"name": "srresnet"}, "data": 3}',
           '{"stage_names": ["a"], "generator": {"name": "srresnet"}, "stages": 3}']  # fmt: skip


def _one_line(text):
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in text
    return line


@pytest.mark.parametrize("text", DAMAGED, ids=lambda text: text[:30])
def test_a_damaged_config_of_a_run_is_an_error_in_a_line(tmp_path, capsys, text):
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "checkpoints" / "pretrain" / "3").mkdir(parents=True)
    with pytest.raises(SystemExit, match="^2$"):
        main.main(["--workdir", str(tmp_path)])
    assert "config.json" in _one_line(capsys.readouterr().err)
    for path in (tmp_path, tmp_path / "checkpoints" / "pretrain" / "3"):
        with pytest.raises(UserError):
            run_weights.find_weights(str(path))
    assert cli.main(["info", str(tmp_path)]) == 2
    _one_line(capsys.readouterr().err)
    with contextlib.suppress(UserError):  # nothing was trained in some of them
        workdir.check_same_run(tmp_path, {}, ("pretrain",), "")


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_damaged_versions_of_a_run_are_an_error_in_a_line(tmp_path, text):
    (tmp_path / "config.json").write_text('{"stage_names": [], "generator": {"name": "srresnet"}}')
    (tmp_path / "versions.json").write_text(text)
    with pytest.raises(UserError, match=r"versions.json is damaged .*; delete it"):
        recorded.load_recorded(tmp_path)


def test_links_of_a_run_are_not_followed(tmp_path):
    victim, run = tmp_path / "victim", tmp_path / "run"
    victim.write_text("precious")
    run.mkdir()
    (run / "lock").symlink_to(victim)
    with pytest.raises(OSError, match="lock"), workdir.locked(run):
        pass
    assert victim.read_text() == "precious"


def _large_png(path, width, height):
    """A small file that announces a large gray image."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def test_an_image_too_large_is_named(tmp_path, capsys):
    _large_png(tmp_path / "set" / "a.png", 20_000, 20_000)
    _large_png(tmp_path / "pairs" / "HR" / "a.png", 20_000, 20_000)
    _large_png(tmp_path / "pairs" / "LRx4" / "a.png", 5_000, 5_000)
    for name in ("set", "pairs"):
        assert cli.main(["evaluate", "--data", str(tmp_path / name), "--metrics", "psnr_y"]) == 2
        assert "a.png: 400 megapixels, more than the limit" in _one_line(capsys.readouterr().err)
    _large_png(tmp_path / "train" / "hr" / "a.png", 20_000, 20_000)
    _large_png(tmp_path / "train" / "lr" / "a.png", 5_000, 5_000)
    assert cli.main(["prepare", str(tmp_path / "train"), "-o", str(tmp_path / "out")]) == 2
    assert "contains no usable images" in _one_line(capsys.readouterr().err)


def test_scores_of_names_that_are_not_utf8_and_of_formulas(tmp_path, photo, capsys):
    folder = tmp_path / "=set"
    images.write_image(folder / "=cmd().png", photo[:48, :64])
    images.write_image(folder / "b.png", photo[:48, :64])
    try:
        os.rename(folder / "b.png", os.fsencode(folder) + b"/caf\xe9.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    out = ["-o", str(tmp_path / "out"), "--report", str(tmp_path / "report")]
    arguments = ["evaluate", "--data", str(folder), "--metrics", "psnr_y", "--degradation", "photo", *out]
    assert cli.main(arguments) == 0, capsys.readouterr().err
    with open(tmp_path / "out" / "pictures.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["picture"] for row in rows} == {r"caf\xe9", "'=cmd()"} and {row["set"] for row in rows} == {"'=set"}
    content = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert {row["picture"] for row in content["pictures"]} == {r"caf\xe9", "=cmd()"}


@pytest.mark.parametrize("kind", ["torch", "stablehlo"])
def test_equal_weights_give_equal_files_whatever_the_clock(tmp_path, monkeypatch, kind):
    made, found = helpers.random_weights(name="rrdb", blocks=1, width=4), []
    write, suffix = export.EXPORTERS[kind].write, {"torch": ".pth", "stablehlo": ".zip"}[kind]
    for seconds in (0.0, 1.8e9):
        monkeypatch.setattr(time, "time", lambda seconds=seconds: seconds)
        write(made, tmp_path / f"a{suffix}", {})
        found.append((tmp_path / f"a{suffix}").read_bytes())
    assert found[0] == found[1]


def test_files_that_hold_no_tensors_are_an_error_in_a_line(tmp_path, capsys):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (scripts/test.sh --torch)")
    contents = {
        "integer_keys": {1: torch.zeros(3, 3), 2: torch.zeros(2)},
        "sparse": {"a.weight": torch.zeros(4, 4).to_sparse()},
        "empty_dict": {}, "a_list": [torch.zeros(2)], "a_tensor": torch.zeros(3), "none": None,
        "empty_tensors": {"conv_first.weight": torch.zeros(0, 3, 3, 3), "conv_first.bias": torch.zeros(0)},
        "scalars": {"conv_first.weight": torch.tensor(1.0), "body.0.weight": torch.tensor(2.0)},
    }  # fmt: skip
    for name, content in contents.items():
        torch.save(content, tmp_path / f"{name}.pth")
        for command in (["import", "-o", str(tmp_path / "out.safetensors")], ["info"]):
            assert cli.main([*command, str(tmp_path / f"{name}.pth")]) == 2, name
            _one_line(capsys.readouterr().err)
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "no_tensors.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    for name in ("empty", "no_tensors"):
        assert cli.main(["import", str(tmp_path / f"{name}.safetensors"), "-o", str(tmp_path / "o.safetensors")]) == 2
        _one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--scale", "64"], "photo is 48 x 48 px; expected sides of at least 64 px"),
        (["--border", "-1"], "--border -1: expected 0 or more"),
        (["--report", "FILE"], "expected a folder"),
        (["--out", "FILE"], "expected a folder"),
    ],
)
def test_evaluate_refuses_what_it_could_not_finish(tmp_path, photo, capsys, options, message):
    images.write_image(tmp_path / "hr" / "photo.png", photo[:48, :48])
    (tmp_path / "FILE").touch()
    options = [str(tmp_path / option) if option == "FILE" else option for option in options]
    assert cli.main(["evaluate", "--data", str(tmp_path / "hr"), "--metrics", "psnr_y", *options]) == 2
    out, err = capsys.readouterr()
    assert message in err and not out


@pytest.mark.parametrize(
    "arguments, name",
    [(["evaluate", "--data", ""], "--data"), (["upscale", ""], "IN"), (["upscale", "a.png", "-o", ""], "--out")],
)
def test_an_empty_argument_is_not_the_current_folder(capsys, arguments, name):
    assert cli.main(arguments) == 2
    assert f"error: {name} is empty: expected a name or a path" in capsys.readouterr().err


def test_an_empty_folder_of_a_run_is_not_the_default_one(capsys):
    with pytest.raises(SystemExit, match="^2$"):
        main.main(["--config", "compact", "--workdir", ""])
    assert "error: --workdir is empty: expected a name or a path" in capsys.readouterr().err
