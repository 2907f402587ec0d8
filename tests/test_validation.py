"""Tests of validation during training: tiles, previews, the first update, and bicubic for comparison."""

import helpers
import jax
import numpy as np
import pytest
from PIL import Image

from srgan_jax import defaults, images, inference
from srgan_jax.config.schema import ValidationConfig
from srgan_jax.data.batch_plan import BatchPlan
from srgan_jax.degradations import DEGRADATIONS
from srgan_jax.evaluation import scoring
from srgan_jax.evaluation.pairs import make_pair, read_pairs
from srgan_jax.training import previews, validation


def test_large_images_are_validated_in_tiles_with_the_same_result(photo, monkeypatch):
    """In arrays that hold a tile, not the image."""
    params = helpers.random_weights(name="srresnet", blocks=1, width=4, scale=2)
    pairs = [make_pair(f"{width}", photo[:200, :width], 2) for width in (180, 220)]
    whole = scoring.upscale_pairs(params, pairs)
    areas = []
    run = inference.tiler.upscale_tiles

    def upscale_tiles(params, tiles, sizes):
        areas.append(tiles.shape[1] * tiles.shape[2])
        return run(params, tiles, sizes)

    tiler = inference.Tiler
    monkeypatch.setattr(inference, "Tiler", lambda *args: tiler(*args, run=upscale_tiles))
    monkeypatch.setattr(scoring, "CANVAS_PX", 64 * 64)
    tiled = scoring.upscale_pairs(params, pairs)
    assert len(areas) > 1 and max(areas) <= 64 * 64
    for ours, expected, pair in zip(tiled, whole, pairs, strict=True):
        assert ours.shape == pair.hr.shape and ours.dtype == np.uint8
        assert np.abs(ours.astype(int) - expected.astype(int)).max() <= 1  # rounding


def _previews_of(folder, config, degrade=None):
    found = validation.read_validation(config, BatchPlan(4, 32, 4), degrade)
    return found, previews.make_previews(2, found, None, BatchPlan(4, 32, 4), 0)


def test_previews_show_the_lr_images_that_are_scored(tmp_path, photo):
    """LR given as files, here darker than bicubic; and LR by a random degradation."""
    for index in range(2):
        hr = photo[:240, : 240 + 8 * index]
        images.write_image(tmp_path / "set" / "HR" / f"{index}.png", hr)
        images.write_image(tmp_path / "set" / "LRx4" / f"{index}.png", np.ascontiguousarray(hr[::4, ::4] // 2))
        images.write_image(tmp_path / "plain" / f"{index}.png", hr)
    _, shown = _previews_of(tmp_path, ValidationConfig(folder=str(tmp_path / "set")))
    for pair in shown:
        assert pair.hr.shape == (192, 192, 3)
        np.testing.assert_array_equal(pair.lr, pair.hr[::4, ::4] // 2)
    degrade = lambda key, hr: DEGRADATIONS["photo"].degrade(key, hr, scale=4)  # noqa: E731
    config = ValidationConfig(folder=str(tmp_path / "plain"), degraded=True)
    found, shown = _previews_of(tmp_path, config, degrade)
    np.testing.assert_array_equal(shown[0].lr, found.pairs[0].lr[6:54, 6:54])  # the centre of 60 px


@pytest.mark.slow
def test_a_run_is_validated_after_its_first_update_beside_bicubic(tiny, dataset, validation_folder, tmp_path, capsys):
    config = tiny(defaults.get_config())
    config.data.dataset, config.stage_names, config.validation.folder = dataset, ("pretrain",), validation_folder
    config.stages.pretrain.total_steps, config.validate_every_steps = 3, 100
    helpers.train(config, tmp_path)
    rows = [row for row in helpers.read_metrics(tmp_path) if "val_psnr_y" in row]
    assert [row["step"] for row in rows] == [1, 3]
    pairs = read_pairs(validation_folder, 4)
    with jax.default_matmul_precision("highest"):
        scores = scoring.score(pairs, [scoring.bicubic(pair.lr, 4) for pair in pairs])
    expected = np.mean([row["psnr_y"] for row in scores])
    assert all(row["bicubic_psnr_y"] == pytest.approx(expected, abs=1e-3) for row in rows)
    assert f"; bicubic psnr_y {expected:.4g}, " in capsys.readouterr().err
    with Image.open(tmp_path / "samples" / "pretrain_0000001.png") as sheet:
        assert sheet.size[0] == 3 * 68 + 2 * 4  # of one image, 70 x 90 px
    report = (tmp_path / "report.html").read_text()
    assert "samples/pretrain_0000003.png" in report and f"<td>{expected:.3f}</td>" in report
