"""Tests of scripts/ship.py and scripts/results.py, on a small run and its scores."""

import json
import xml.etree.ElementTree

import jax
import numpy as np
import pytest

import results
import ship
import srgan_jax
from srgan_jax import cli, images, models, weights
from srgan_jax.runtime.errors import UserError
from srgan_jax.weights import pretrained

COMMAND = "/somewhere/srgan_jax/main.py --config configs/photo.py --workdir /somewhere/photo --config.a=('b',)"


@pytest.fixture
def run(tmp_path, photo):
    """The folder of a finished run, beside a folder `held` of validation images."""
    fields = {"name": "compact", "blocks": 1, "width": 8}
    variables = models.build(models.GENERATORS, fields).init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    folder = tmp_path / "run"
    srgan_jax.save(folder / "generator.safetensors", srgan_jax.make_weights(variables, fields), {"steps": "30"})
    config = {"data": {"batch_size": 8, "crop_px": 128}, "init_from": "compact_x4", "degradation": {"name": "photo"}}
    (folder / "config.json").write_text(json.dumps(config))
    versions = {"git": "abc", "jax": "1", "flax": "2", "command": COMMAND}
    (folder / "versions.json").write_text(json.dumps(versions))
    rows = [
        {"stage": "pretrain", "step": step, "seconds": seconds, "loss": 1 / step}
        for step, seconds in ((1, 1800.0), (10, 7200.0), (20, 60.0), (30, 3600.0))
    ]  # resumed after 10
    rows.append({"stage": "pretrain", "step": 30, "seconds": 3600.0, "val_psnr_y": 30.0})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for index in range(2):
        images.write_image(tmp_path / "held" / f"{index}.png", photo[60 * index : 60 * index + 60, :80])
    return folder


def _ship(run, *options):
    arguments = [str(run), "photo_x4", "--validation", str(run.parent / "held"), "--hardware", "two cores"]
    return ship.main([*arguments, "--out", str(run.parent / "shipped"), *options])


def test_a_shipped_file_has_its_card(run, capsys):
    (run.parent / "shipped").mkdir()
    begun = weights.read_provenance("compact_x4")
    assert _ship(run) == 0
    path = str(run.parent / "shipped" / "photo_x4.safetensors")
    card = weights.read_provenance(path)
    expected_command = "python -m srgan_jax.main --config configs/photo.py --workdir photo \"--config.a=('b',)\""
    assert card["command"] == expected_command
    assert card["wall_time"] == "3.0 hours"  # 7200 s until it was killed, 3600 s afterwards
    assert (card["updates"], card["hardware"]) == ("30", "two cores")
    assert card["started_from"] == f"compact_x4 of revision {begun['revision'][:7]}, {begun['updates']} updates"
    shipped, trained = (srgan_jax.load(path) for path in (path, run))
    for ours, theirs in zip(jax.tree.leaves(shipped), jax.tree.leaves(trained), strict=True):
        np.testing.assert_array_equal(ours, np.float32(np.float16(theirs)))
    # The card's scores are those that the command gives for the file itself.
    for degradation in ("bicubic", "photo"):
        capsys.readouterr()
        options = ["--degradation", "photo"] if degradation == "photo" else []
        data = ["--data", str(run.parent / "held"), "--metrics", "psnr_y", "ssim_y"]
        assert cli.main(["evaluate", "--weights", path, *data, *options]) == 0
        rows = {line.split()[1]: line.split()[2:] for line in capsys.readouterr().out.splitlines()[2:5]}
        psnr, ssim = rows["photo_x4"]
        assert card[f"validation_{degradation}"].startswith(f"{psnr} dB, SSIM {ssim}; bicubic {rows['bicubic'][0]} dB")


def test_unsuitable_weights_are_not_shipped(run, capsys):
    out = run.parent / "shipped"
    out.mkdir()
    for limits, message in (({"max_bytes": 1000}, "bytes, more than 1,000"), ({"max_loss_db": -1.0}, "in float16")):
        with pytest.raises(UserError, match=message):
            ship.ship(run, "photo_x4", str(run.parent / "held"), "two cores", out, **limits)
    assert not list(out.iterdir())
    assert ship.main([str(run), "other_x4", "--validation", "x", "--hardware", "x"]) == 2
    assert "unknown shipped generator 'other_x4'; valid: compact_x4, photo_x4" in capsys.readouterr().err
    (run / "versions.json").unlink()
    assert _ship(run) == 2 and "is not a run folder: no versions.json" in capsys.readouterr().err


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "RESULTS.md"
    names = ("generators", "test", "recipes", "crops", "photos", "six")
    path.write_text("# Top\n" + "".join(f"<!-- {name} -->\nold\n<!-- /{name} -->\n" for name in names) + "end\n")
    return path


def test_tables_hold_the_scores_and_the_papers(run, page, monkeypatch, capsys):
    out = run.parent / "shipped"
    out.mkdir()
    assert _ship(run) == 0
    monkeypatch.setattr(pretrained, "FOLDER", out)
    scores = page.parent / "test"
    (run.parent / "held").rename(run.parent / "Set5")
    data = ["--data", str(run.parent / "Set5"), "--metrics", "psnr_y", "ssim_y", "ssim_daala"]
    assert cli.main(["evaluate", "--weights", "photo_x4", *data, "--out", str(scores)]) == 0
    assert results.main(["--page", str(page), "tables", "--scores", str(scores)]) == 0
    text = page.read_text()
    assert "old" in text and text.startswith("# Top\n") and text.endswith("end\n")  # crops and photos are untouched
    (shown,) = [line for line in text.splitlines() if line.startswith("| Set5 | photo_x4 |")]
    assert shown in (scores / "scores.md").read_text() and "nearest" not in text
    assert "| Set5 | *paper: SRResNet-MSE* | 32.05 |  | 0.9019 |" in text
    assert "| updates | 30 |" in text and "| hardware | two cores |" in text
    before = page.read_text()
    assert results.main(["--page", str(page), "tables", "--scores", str(scores)]) == 0 and page.read_text() == before
    assert results.main(["--page", str(page), "tables", "--scores", str(page.parent / "absent")]) == 2
    assert "create it with srgan-jax evaluate" in capsys.readouterr().err


def test_recipes_are_named_by_the_differences_of_their_configs(page, capsys):
    psnr, runs = {"base": 30.25, "mse": 30.2, "seed": 30.26}, []
    for name, value in psnr.items():
        folder = page.parent / name
        folder.mkdir()
        stages = {"pretrain": {"pixel": "mse" if name == "mse" else "l1"}, "later": {"pixel": len(runs)}}
        config = {"seed": int(name == "seed"), "stages": stages, "stage_names": ["pretrain"]}
        config["save_every_steps"] = 1000 + len(runs)  # this key and unused stages are no part of a recipe
        config |= {} if name == "base" else {"micro_batches": 1}  # the default of a key that older runs don't have
        (folder / "config.json").write_text(json.dumps(config))
        rows = [
            {"step": 10, "loss": 0.1},
            *({"step": s, "val_psnr_y": value + s - 20, "val_ssim_y": 0.8} for s in (10, 20)),
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        runs.append(str(folder))
    assert results.main(["--page", str(page), "recipes", *runs]) == 0
    rows = [line for line in page.read_text().splitlines() if line.endswith(" |")][2:]
    assert rows[0] == "| none | 30.250 |  | 0.8000 |  |"
    assert rows[1] == "| `stages.pretrain.losses.pixel.term=mse` | 30.200 | -0.050 | 0.8000 | +0.0000 |"
    assert rows[2] == "| `seed=1` | 30.260 | +0.010 | 0.8000 | +0.0000 |"
    with open(page.parent / "mse" / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 30, "val_psnr_y": 31.0, "val_ssim_y": 0.9}) + "\n")
    assert results.main(["--page", str(page), "recipes", *runs]) == 2
    assert "expected runs of the same length, got validations after [20, 30] updates" in capsys.readouterr().err
    (page.parent / "base" / "metrics.jsonl").write_text(json.dumps({"step": 10, "loss": 0.1}))
    assert results.main(["--page", str(page), "recipes", *runs]) == 2
    assert "expected validations with psnr_y and ssim_y, found none" in capsys.readouterr().err
    assert results.main(["--page", str(page), "recipes", str(page.parent / "absent")]) == 2
    assert "is not a run folder: no config.json" in capsys.readouterr().err


def test_a_page_without_markers_is_refused(page, capsys):
    page.write_text("nothing")
    with pytest.raises(UserError, match="expected .*<!-- test -->"):
        results.fill(page, "test", "new")


def _drawn_curves(folder):
    """Returns the titles and labels of the curves, and the points of the first."""
    drawing = xml.etree.ElementTree.parse(folder / ".github" / "curves.svg").getroot()
    texts = [node.text for node in drawing.iter() if node.tag.endswith("text")]
    line = next(node.get("points") for node in drawing.iter() if node.tag.endswith("polyline"))
    return texts, np.array([point.split(",") for point in line.split()], float)


def test_curves_show_what_was_logged(run, page):
    (page.parent / ".github").mkdir()
    assert results.main(["--page", str(page), "curves", f"mine={run}"]) == 0
    texts, points = _drawn_curves(page.parent)
    assert "mine: training loss" in texts and "mine: validation PSNR-Y, dB" in texts and "30" in texts
    assert {"0.03", "0.52", "1.00"} <= set(texts)  # losses from 1/30 to 1
    # Updates 1, 10, 20, 30 of 30 along 330 px from 70; losses 1, 1/10, 1/20, 1/30 over 160 px down to 200.
    np.testing.assert_allclose(points[:, 0], 70 + 11 * np.array([1, 10, 20, 30]), atol=0.06)
    np.testing.assert_allclose(points[:, 1], 200 - 160 * (30 / np.array([1, 10, 20, 30]) - 1) / 29, atol=0.06)


def test_each_stage_has_its_curves(run, page):
    (page.parent / ".github").mkdir()
    rows = [{"stage": "pretrain", "step": 1, "loss": 1.0}, {"stage": "pretrain", "step": 10, "loss": 0.5}]
    rows += [{"stage": "gan", "step": 1, "loss": 0.2}, {"stage": "gan", "step": 2, "loss": 0.1}]
    rows += [{"stage": "gan", "step": 4, "val_psnr_y": 30.0, "val_v34": 0.3}]
    rows += [{"stage": "last", "step": 1, "loss": 1.0}]  # too short for a curve
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert results.main(["--page", str(page), "curves", f"mine={run}"]) == 0
    texts, points = _drawn_curves(page.parent)
    kinds = ["pretrain: training loss", "gan: training loss", "gan: validation PSNR-Y, dB", "gan: validation v34"]
    assert [text for text in texts if ":" in text] == [f"mine, {kind}" for kind in kinds]
    np.testing.assert_allclose(points, [[70 + 33, 40], [70 + 330, 200]], atol=0.06)  # updates 1 and 10 of 10


def test_curves_of_other_runs_are_kept(run, page):
    (page.parent / ".github").mkdir()
    assert results.main(["--page", str(page), "curves", f"mine={run}"]) == 0
    _, points = _drawn_curves(page.parent)
    rows = [{"stage": "gan", "step": 1, "loss": 1.0}, {"stage": "gan", "step": 2, "loss": 0.5}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert results.main(["--page", str(page), "curves", f"other={run}"]) == 0
    texts, kept = _drawn_curves(page.parent)
    titles = [text for text in texts if ":" in text]
    assert titles == ["mine: training loss", "mine: validation PSNR-Y, dB", "other: training loss"]
    np.testing.assert_array_equal(kept, points)
    assert (
        results.main(["--page", str(page), "curves", f"mine={run}"]) == 0
    )  # a run of the same name replaces the earlier one
    texts, _ = _drawn_curves(page.parent)
    assert [text for text in texts if ":" in text] == ["mine: training loss", "other: training loss"]


def test_crops_and_photos_are_cut_at_the_configured_places(run, page, monkeypatch, photo):
    monkeypatch.setattr(results, "CROPS", {"Set5/a": (8, 16)})
    monkeypatch.setattr(results, "CROP_PX", 40)
    for name, size in {"photos": (10, 20), "six": (6, 8)}.items():
        monkeypatch.setitem(results.PHOTO_FIGURES, name, results.PHOTO_FIGURES[name]._replace(size=size))
    monkeypatch.setattr(results, "MARGIN_PX", 16)  # more than the radius of photo_x4's receptive field
    images.write_image(page.parent / "Set5" / "a.png", photo[:64, :80])
    options = ["--benchmarks", str(page.parent), "--weights", str(run / "generator.safetensors")]
    assert results.main(["--page", str(page), "crops", *options]) == 0
    sheet = images.read_rgb(page.parent / ".github" / "crops.png")
    assert sheet.shape == (80, 3 * 80 + 2 * 4, 3)
    np.testing.assert_array_equal(sheet[::2, 168::2], photo[8:48, 16:56])
    assert "bicubic, generator, original. Rows: a." in page.read_text()
    assert results.main(["--page", str(page), "photos", str(page.parent / "Set5" / "a.png")]) == 0
    sheet = images.read_rgb(page.parent / ".github" / "photos.png")
    assert sheet.shape == (40, 2 * 80 + 4, 3)
    theirs = np.asarray(srgan_jax.upscale(srgan_jax.load("photo_x4"), photo[:64, :80]))
    np.testing.assert_array_equal(sheet[:, 84:], theirs[4 * 27 : 4 * 37, 4 * 30 : 4 * 50])
    assert "Bicubic, photo_x4: a.png." in page.read_text()
    both = ["--figure", "six", "--weights", "photo_x4", "compact_x4"]
    assert results.main(["--page", str(page), "photos", str(page.parent / "Set5" / "a.png"), *both]) == 0
    assert images.read_rgb(page.parent / ".github" / "six.jpg").shape == (24, 3 * 32 + 2 * 4, 3)
    assert "Bicubic, photo_x4, compact_x4: a.png." in page.read_text()
