import csv
import json
import re
import sys

import helpers
import numpy as np
import pytest
from PIL import Image

import srgan_jax
from srgan_jax import cli, images, inference
from srgan_jax.data import builder
from srgan_jax.evaluation import metrics, scoring, tables
from srgan_jax.evaluation.pairs import make_pair, read_pairs
from srgan_jax.runtime.errors import UserError


def test_prepare_lists_skipped_files(tmp_path, photo, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(photo).save(folder / "good.png")
    Image.fromarray(photo[:50]).save(folder / "small.png")
    (folder / "text.jpg").write_text("not a picture")
    assert cli.main(["prepare", str(folder), "--out", str(tmp_path / "out")]) == 0
    output = capsys.readouterr().out.splitlines()
    assert output[:2] == [
        "skipped small.png: 448 x 50 px, smaller than 96 px",
        "skipped text.jpg: not an image in a known format",
    ]
    assert output[2].startswith("1 images prepared, 2 skipped")
    assert cli.main(["prepare", str(folder), "--out", str(tmp_path / "out"), "--min-side", "32"]) == 0
    assert len(builder.open_source(str(tmp_path / "out"))) == 2


def test_a_progress_bar_is_drawn_on_a_terminal_only(photo_folder, tmp_path, capsys, monkeypatch):
    command = ["prepare", str(photo_folder), "--out", str(tmp_path / "out"), "--min-side", "32"]
    assert cli.main(command) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr", helpers.Terminal())
    assert cli.main(command) == 0
    assert "preparing: 100%" in sys.stderr.getvalue() and "6/6" in sys.stderr.getvalue()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "{folder}"], "--out is required for a folder: srgan-jax prepare {folder} --out data/NAME"),
        (["prepare", "{folder}/absent", "--out", "out"], "no such folder: {folder}/absent"),
        (["prepare", "no_such_set"], "no data set 'no_such_set'"),
        (["prepare", "{folder}", "--out", "{folder}/out"], "{folder} contains no images"),
        (["evaluate", "--data", "{folder}/absent"], "no such folder: {folder}/absent"),
        (["evaluate", "--data", "{folder}"], "no images in {folder}"),
        (["evaluate", "--weights", "{folder}/absent", "--data", "{folder}"], "no weights at {folder}/absent"),
        (["evaluate", "--data", "{folder}", "{folder}"], "given twice: {folder}"),
        (["evaluate", "--data", "{folder}", "--scale", "0"], "--scale 0: expected 1 or more"),
        (["evaluate", "--data", "{folder}", "--metrics", "niqe"], "get them with: srgan-jax port niqe"),
        (["evaluate", "--data", "{folder}", "--metrics", "psnr_z"], "unknown metric 'psnr_z'; valid: flat, lpips_alex"),
        (["evaluate", "--data", "{folder}", "--bootstrap", "weights"], "compares with the first of --weights"),
        (["import", "{folder}/absent.pth", "--from", "srgan5"], "no such file: {folder}/absent.pth"),
        (["import", "{folder}/absent.pth", "--from", "esrgan"], "unknown source 'esrgan'; valid: basicsr-msrresnet"),
    ],
)
def test_usage_errors_are_reported_in_one_line(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.setenv("SRGAN_JAX_WEIGHTS", str(tmp_path))  # not the weights in the checkout
    assert cli.main([argument.format(folder=tmp_path) for argument in arguments]) == 2
    output = capsys.readouterr().err
    assert output.startswith("error: ") and message.format(folder=tmp_path) in output and "Traceback" not in output


@pytest.fixture(scope="module")
def test_set(tmp_path_factory, photo):
    """`plain`: HR images, three of different sizes and a gray one; `pairs`: the three with their LR images."""
    root = tmp_path_factory.mktemp("sets")
    for index, (height, width) in enumerate([(61, 80), (90, 66), (80, 80)]):
        image = photo[100 : 100 + height, 120 : 120 + width]
        images.write_image(root / "plain" / f"{index}.png", image)
        images.write_image(root / "pairs" / "HR" / f"{index}.png", image)
        lr = make_pair("", image, 2, "B").lr
        images.write_image(root / "pairs" / "LRx2" / f"{index}.png", lr)
    Image.fromarray(photo[:70, :70, 0]).save(root / "plain" / "gray.png")
    return root


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    fields = {"name": "srresnet", "blocks": 1, "width": 4, "scale": 2, "norm": "none", "base": "bicubic"}
    srgan_jax.save(path, helpers.random_weights(**fields))
    return path


def test_evaluate_prints_and_writes_one_table(test_set, generator, tmp_path, capsys):
    folders = [str(test_set / name) for name in ("plain", "pairs")]
    arguments = ["evaluate", "--weights", str(generator), "--data", *folders, "--out", str(tmp_path)]
    assert cli.main([*arguments, "--bootstrap", "bicubic", "--metrics", "psnr_y", "ssim_rgb"]) == 0
    output = capsys.readouterr().out
    rows = [line for line in output.splitlines() if line.startswith("p")]
    assert [row.split()[:2] for row in rows] == [
        [name, method] for name in ("plain", "pairs") for method in ("bicubic", "nearest", "small")
    ]
    assert "2 px ignored at each border" in output and "LR of pairs: the files of LRx2" in output
    assert (
        "LR of plain: MATLAB bicubic, convention A" in output
        and "95 % interval of the mean difference to bicubic" in output
    )
    content = json.loads((tmp_path / "scores.json").read_text())
    table, notes = (tmp_path / "scores.md").read_text().strip().split("\n\n")
    assert [line.strip("| ").split(" | ") for line in table.splitlines()[2:]] == [re.split("  +", row) for row in rows]
    assert notes in output
    image_rows = list(csv.DictReader((tmp_path / "pictures.csv").read_text().splitlines()))
    assert len(image_rows) == 3 * (4 + 3) == len(content["pictures"])
    # The table's mean is the mean of the images' scores in the file, and each score is the metric's value.
    nearest = [row for row in image_rows if row["set"] == "pairs" and row["method"] == "nearest"]
    average = next(m for m in content["means"] if m["set"] == "pairs" and m["method"] == "nearest")
    assert average["psnr_y"] == pytest.approx(np.mean([float(row["psnr_y"]) for row in nearest]))
    table = list(csv.DictReader((tmp_path / "scores.csv").read_text().splitlines()))
    assert [(row["set"], row["method"]) for row in table] == [(m["set"], m["method"]) for m in content["means"]]
    assert {gain["over"] for gain in content["intervals"]} == {"bicubic"} and len(content["intervals"]) == 4
    pair = read_pairs(test_set / "pairs", 2)[1]
    alone = scoring.score([pair], [pair.lr.repeat(2, 0).repeat(2, 1)])[0]
    assert float(nearest[1]["psnr_y"]) == pytest.approx(alone["psnr_y"], abs=1e-4)


def test_images_that_are_too_small_or_share_a_name_are_reported(tmp_path, photo, capsys):
    images.write_image(tmp_path / "a.png", photo[:40, :40])
    assert cli.main(["evaluate", "--data", str(tmp_path), "--border", "15"]) == 2
    assert "a is 40 x 40 px; without a border of 15 px at each side" in capsys.readouterr().err
    assert cli.main(["evaluate", "--data", str(tmp_path), "--border", "-1"]) == 2
    images.write_image(tmp_path / "sub" / "b.png", photo[:50, :50])  # not part of the set
    assert [pair.name for pair in read_pairs(tmp_path, 4)] == ["a"]
    images.write_image(tmp_path / "a.bmp", photo[:40, :40])
    assert cli.main(["evaluate", "--data", str(tmp_path)]) == 2
    assert "images whose names differ in the suffix only: a" in capsys.readouterr().err


def test_images_of_many_sizes_compile_once(photo, generator):
    params = srgan_jax.load(generator)

    # Canvases of 58 x 106, which no other test uses.
    first, second = (
        [make_pair(str(size), photo[: size[0], : size[1]], 2) for size in sizes]
        for sizes in ([(54, 106), (58, 46), (50, 102)], [(52, 106), (58, 64), (30, 40)])
    )
    counts = []
    for pairs in (first, second):
        with helpers.record_compilations() as compiled:
            results = scoring.upscale_all(lambda lr, size: inference.upscale_canvas(params, lr, size), pairs)
            scoring.score(pairs, results, ("psnr_y", "ssim_y"))
        counts.append(len(compiled))
    assert counts[0] >= 3 and counts[1] == 0


def test_folders_and_weights_with_the_same_name_are_distinguished(test_set, generator, tmp_path, photo, capsys):
    for part in ("a", "b"):
        images.write_image(tmp_path / part / "photos" / "1.png", photo[:40, :40] // (1 + (part == "b")))
        (tmp_path / part / "bicubic.safetensors").write_bytes(generator.read_bytes())
    folders = [str(tmp_path / part / "photos") for part in ("a", "b")]
    files = [str(tmp_path / "a" / "bicubic.safetensors"), str(generator)]
    assert (
        cli.main(["evaluate", "--data", *folders, "--weights", *files, "--metrics", "psnr_y", "--bootstrap", "weights"])
        == 0
    )
    rows = [re.split("  +", line) for line in capsys.readouterr().out.splitlines() if line.startswith(f"{tmp_path}")]
    assert [(row[0], row[1]) for row in rows] == [
        (folder, method) for folder in folders for method in ("bicubic", "nearest", files[0], "small")
    ]
    assert rows[2][2].count("(") == 0 and rows[3][2].endswith("(+0.000 to +0.000)")  # compared with themselves


def test_evaluate_options_change_the_score_and_the_note(test_set, capsys):
    def psnr(*options):
        assert (
            cli.main(["evaluate", "--data", str(test_set / "plain"), "--scale", "2", "--metrics", "psnr_y", *options])
            == 0
        )
        output = capsys.readouterr().out
        return float(output.splitlines()[2].split()[2]), output

    plain, _ = psnr()
    for options, note in [
        (["--border", "8"], "8 px ignored"),
        (["--convention", "C"], "convention C (borders mirrored, not rounded between the passes)"),
        (["--gray", "rgb"], "gray files: read as RGB, converted to Y"),
        (["--round-y"], "(BT.601, 16 to 235), rounded to 8 bits"),
    ]:
        value, output = psnr(*options)
        assert value != plain and note in output, options


def test_only_the_metrics_of_the_table_are_explained(test_set, tmp_path, capsys):
    arguments = ["evaluate", "--data", str(test_set / "plain"), "--scale", "2", "--out", str(tmp_path / "out")]
    for names in (["psnr_y"], ["psnr_y", "ssim_daala"]):
        assert cli.main([*arguments, "--report", str(tmp_path / "page"), "--metrics", *names]) == 0
        output = capsys.readouterr().out
        pages = [tmp_path / "out" / name for name in ("scores.md", "scores.json")] + [tmp_path / "page" / "index.html"]
        for text in (output, *(page.read_text() for page in pages)):
            assert [name for name in metrics.METRICS if f"{name}: " in text] == names[1:]


def test_help_names_every_metric(capsys):
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "--help"])
    output = capsys.readouterr().out
    assert [name for name in metrics.METRICS if name not in output] == []


def test_a_folder_of_test_sets_is_refused_with_its_subfolders(test_set, tmp_path, capsys):
    assert cli.main(["evaluate", "--data", str(test_set), "--scale", "2"]) == 2
    output = capsys.readouterr().err
    inside = f"{test_set / 'pairs'}, {test_set / 'plain'}"
    assert output == f"error: no images in {test_set} itself; give the sub-folders that contain images: {inside}\n"


def test_pairs_that_do_not_match_are_listed(test_set, tmp_path, photo):
    for folder, sides in (("HR", {"a": 40, "b": 40, "c": 40}), ("LRx2", {"a": 20, "b": 10, "d": 20})):
        for name, side in sides.items():
            images.write_image(tmp_path / folder / f"{name}.png", photo[:side, :side])
    with pytest.raises(UserError) as raised:
        read_pairs(tmp_path, 2)
    assert "3 images" in str(raised.value)
    for line in ("b: HR 40 x 40, LR 10 x 10", "c: not in", "d: not in"):
        assert line in str(raised.value)


@pytest.mark.parametrize(
    ("hr", "lr", "options"),
    [
        ("GT/{}.png", "lq/{}.png", {}),
        ("HR/{}_HR.png", "LRx2/{}_LRx2.png", {}),
        ("Set_HR/img_{}_SRF_2_HR.png", "Set_LR_bicubic/X2/img_{}_SRF_2_LR.png", {}),
        ("hr/{}.png", "LR/small-{}.png", {"lr_name": "small-{name}"}),
    ],
)
def test_folders_and_names_of_test_sets_are_recognised(tmp_path, photo, hr, lr, options):
    for index in range(2):
        image = photo[40 * index : 40 * index + 40, :44]
        images.write_image(tmp_path / hr.format(index), image)
        images.write_image(tmp_path / lr.format(index), np.ascontiguousarray(image[::2, ::2]))
        images.write_image(tmp_path / "LRx3" / f"{index}.png", photo[:10, :10])  # of another scale
    pairs = read_pairs(tmp_path, 2, **options)
    assert len(pairs) == 2
    for index, pair in enumerate(pairs):
        np.testing.assert_array_equal(pair.hr, photo[40 * index : 40 * index + 40, :44])
        np.testing.assert_array_equal(pair.lr, pair.hr[::2, ::2])


def test_test_sets_that_are_not_clear_are_refused(tmp_path, photo):
    for folder in ("HR", "lr", "LQ"):
        images.write_image(tmp_path / folder / "a.png", photo[:40, :40])
    with pytest.raises(UserError, match=r"several folders of LR images: .*LQ, .*lr; keep one of them"):
        read_pairs(tmp_path, 2)
    with pytest.raises(UserError, match=r"--lr-name x4: expected the name of an LR image with \{name\} in it"):
        read_pairs(tmp_path / "HR", 2, lr_name="x4")


def test_a_bar_shows_how_many_images_are_evaluated(test_set, monkeypatch, capsys):
    terminal = helpers.Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    assert cli.main(["evaluate", "--data", str(test_set / "pairs"), "--scale", "2", "--metrics", "psnr_y"]) == 0
    count = len(read_pairs(test_set / "pairs", 2))
    assert "evaluating: 100%" in terminal.getvalue() and f"{2 * count}/{2 * count} " in terminal.getvalue()


def test_bootstrap_intervals_by_hand():
    # Four differences of exactly 1 dB: every resampling has the mean 1. Of 0 and 2: means 0, 1 and 2 with probabilities
    # 1/4, 1/2, 1/4, so the 2.5th and 97.5th percentiles are 0 and 2.
    assert scoring.bootstrap_interval([1.0] * 4) == (1.0, 1.0)
    assert scoring.bootstrap_interval([0.0, 2.0]) == (0.0, 2.0)
    rows = [
        tables.Row("s", method, str(i), {"psnr_y": 20.0 + i + (method == "b")}) for i in range(3) for method in "ab"
    ]
    assert tables.intervals(rows, "a") == {("s", "b"): {"psnr_y": (1.0, 1.0)}}
    assert "21.000 (+1.000 to +1.000)" not in tables.markdown(rows, [], None)
    assert "| s | b | 22.000 (+1.000 to +1.000) |" in tables.markdown(rows, [], "a")
    rows[-1].scores["psnr_y"] = float("inf")  # two equal images: no interval
    assert tables.intervals(rows, "a") == {("s", "b"): {}}
    assert "| s | b | inf |" in tables.markdown(rows, [], "a")


def test_import_writes_what_upscale_reads(tmp_path, capsys):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (scripts/test.sh --torch)")
    shapes = {"conv_first": (8, 3), "body.0.conv1": (8, 8), "body.0.conv2": (8, 8), "upconv1": (32, 8)}
    shapes |= {"conv_hr": (8, 8), "conv_last": (3, 8)}
    state = {f"{name}.weight": torch.zeros(*shape, 3, 3) for name, shape in shapes.items()}
    state |= {f"{name}.bias": torch.zeros(shape[0]) for name, shape in shapes.items()}
    torch.save(state, tmp_path / "theirs.pth")
    arguments = [
        "import",
        str(tmp_path / "theirs.pth"),
        "--from",
        "basicsr-msrresnet",
        "--out",
        str(tmp_path / "o.safetensors"),
    ]
    assert cli.main(arguments) == 0
    assert "msrresnet, 1 blocks of 8 channels, x2" in capsys.readouterr().out
    assert srgan_jax.upscale(srgan_jax.load(tmp_path / "o.safetensors"), np.zeros((4, 4, 3), np.uint8)).shape == (
        8,
        8,
        3,
    )
    assert cli.main(arguments) == 2 and "add --overwrite" in capsys.readouterr().err
    assert cli.main([*arguments, "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["upscale", "a.jpg", "--weigths", "x"], "unrecognized arguments: --weigths x; did you mean '--weights' or "),
        (["evaluate", "--dta", "two"], "the following arguments are required: --data; did you mean '--data' or "),
    ],
)
def test_misspelt_options_are_answered_with_the_right_one(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    output = capsys.readouterr().err
    assert ended.value.code == 2 and message in output and f"usage: srgan-jax {arguments[0]}" in output
