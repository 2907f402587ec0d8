"""Tests of the texture metrics, against values computed by hand and against an independent program on real images."""

import importlib.util
import json
import os

import numpy as np
import pytest

import srgan_jax
from srgan_jax import cli, images
from srgan_jax.evaluation import metrics, scoring
from srgan_jax.evaluation.metrics import METRICS, texture
from srgan_jax.evaluation.pairs import Pair

NO_WEIGHTS = [name for name in metrics.expand(["texture"]) if name != "v34"]


def _checkerboard(contrast):
    rows, columns = np.indices((64, 64))
    return np.full((64, 64, 3), 128 / 255) + contrast * ((rows + columns) % 2 - 0.5)[..., None]


def _meshes(rng: np.random.Generator, side: int = 128) -> np.ndarray:
    """Returns a checkerboard of 4 px whose sign is drawn for each block of 32 px, `[side, side, 1]`."""
    rows, columns = np.indices((side, side)) % 4
    signs = np.repeat(np.repeat(rng.choice([-1.0, 1.0], (side // 32, side // 32)), 32, 0), 32, 1)
    return (signs * np.where((rows < 2) == (columns < 2), 1.0, -1.0))[..., None]


def test_mesh_finds_meshes_that_differ_from_block_to_block():
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(3)
    hr = 0.5 + 0.05 * rng.standard_normal((128, 128, 1)).repeat(3, 2)
    pattern = 0.05 * _meshes(rng)
    found = texture.mesh(hr + pattern, hr)
    # `mesh` of HR is about 1. In SR, with the energies N of the noise and M of the pattern after the high pass, it is
    # 64 (N / 64 + M) / (N + M): the mean of the 64 cells of a block divides the energy of independent noise by 64, and
    # leaves that of the pattern. At the borders of blocks, where the sign may change, it is smaller.
    noise, mesh = (np.mean((x - gaussian_filter(x, 1.0)) ** 2) for x in (hr[..., 0], pattern[..., 0]))
    assert 0.6 < found / ((noise + 64 * mesh) / (noise + mesh)) < 1
    assert texture.phase([texture.lattice(hr + pattern, hr)]) < 1.3  # `phase` does not detect these meshes
    assert texture.mesh(hr, hr) == 1


def test_a_perfect_result_has_the_best_values(photo):
    hr = photo[:96, :160].astype(np.float32) / 255
    values = {name: METRICS[name](hr, hr) for name in NO_WEIGHTS if name not in ("phase", "psnr_y")}
    assert values["power_25"] == values["power_375"] == 0
    assert values["place"] == pytest.approx(1) and np.isnan(values["flat"])
    assert values["lr_psnr"] == pytest.approx(10 * np.log10(255**2 / 0.01))  # the largest value: an error of 0.1 levels


def test_halved_contrast_lowers_power_by_six_decibels():
    """Half the amplitude of luma is a quarter of the power: 10 log10(1/4) = -6.02 dB, at the highest frequencies."""
    hr, sr = _checkerboard(40 / 255), _checkerboard(20 / 255)
    corners = {"low": 0.6, "high": 0.8}  # a checkerboard's frequency is (.5, .5): radius .707
    assert texture.power(sr, hr, **corners) == pytest.approx(-6.02, abs=0.02)


def test_noise_in_a_flat_image_raises_flat_and_not_place():
    rng = np.random.default_rng(0)
    weak, strong = (np.clip(0.5 + rng.normal(0, sigma, (160, 160, 3)), 0, 1) for sigma in (1 / 255, 3 / 255))
    ratio = texture.flat(strong, weak)
    assert 2.5 < ratio < 3.2  # three times the noise, except for the rounding to 8 bits
    assert abs(texture.place(strong, weak)) < 0.4


def test_flat_needs_eight_flat_blocks():
    assert np.isnan(texture.flat(*[_checkerboard(40 / 255)] * 2))


def test_phase_finds_a_lattice_of_four_pixels():
    rng = np.random.default_rng(1)
    hr = np.clip(0.5 + rng.normal(0, 0.1, (256, 256, 3)), 0, 1)
    sr = hr.copy()
    sr[::4, ::4] += 0.3
    assert texture.phase([texture.lattice(hr, hr)]) < 1.3
    assert texture.phase([texture.lattice(np.clip(sr, 0, 1), hr)]) > 2


def test_phase_pools_the_images_before_the_ratio():
    """Opposite lattices of two images cancel: (1.5 + 0.5) / 2 = 1 at every position."""
    first, second = np.ones(16), np.ones(16)
    first[0], first[1], second[0], second[1] = 1.5, 0.5, 0.5, 1.5
    assert texture.phase([first]) == 3
    assert metrics.pooled("phase", [first, second]) == 1


def test_images_without_a_value_do_not_count():
    assert metrics.pooled("flat", [1.0, float("nan"), 2.0]) == 1.5


def test_names_of_groups_are_replaced_once():
    assert metrics.expand(["psnr_y", "texture"])[:2] == ["psnr_y", "lr_psnr"]


def test_scores_of_a_set_and_of_its_images(photo):
    pairs = [Pair(str(i), photo[i : i + 96 : 4, :128:4], photo[i : i + 96, :128]) for i in (0, 64)]
    rows = scoring.score(pairs, [pair.hr.copy() for pair in pairs], ["phase", "power_25"])
    assert scoring.mean(rows)["power_25"] == 0
    separate = [scoring.of_one_image(row)["phase"] for row in rows]
    assert 1 < scoring.mean(rows)["phase"] < max(separate)  # the average over images makes the positions more equal


def test_a_two_sided_metric_chooses_no_checkpoint():
    from srgan_jax.config.resolve import resolve
    from srgan_jax.defaults import get_config
    from srgan_jax.training import setup

    config = get_config()
    config.validation.metrics, config.validation.best = ("flat",), "flat"
    with pytest.raises(ValueError, match="validation.best='flat': expected a metric that is better where"):
        setup.build(resolve(config))


def test_evaluate_prints_the_group(tmp_path, photo, capsys, vgg_file, monkeypatch):
    monkeypatch.setenv("SRGAN_JAX_WEIGHTS", str(vgg_file.parent))
    (tmp_path / "set").mkdir()
    images.write_image(tmp_path / "set" / "a.png", photo[:64, :96])
    assert (
        cli.main(["evaluate", "--data", str(tmp_path / "set"), "--metrics", "texture", "-o", str(tmp_path / "o")]) == 0
    )
    printed = capsys.readouterr().out
    assert "lr_psnr v34 power_25 power_375 place flat phase" in " ".join(printed.split()) and "best: 0" in printed
    scores = json.loads((tmp_path / "o" / "scores.json").read_text())
    assert all(isinstance(row["phase"], float) for row in scores["means"] + scores["pictures"])


@pytest.mark.slow
def test_values_equal_an_independent_program(shared_data, tmp_path, monkeypatch):
    """`texture.py` of the reference data uses the same frequency bands, and the VGG19 file that this test ports."""
    path = shared_data.parent / "cases" / "texture.py"
    spec = importlib.util.spec_from_file_location("texture_reference", path)
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    vgg = str(shared_data / "vgg19" / "vgg19_conv_f16.npz")
    assert cli.main(["port", "vgg19", vgg, "-o", str(tmp_path / "vgg19.safetensors")]) == 0
    monkeypatch.setenv("SRGAN_JAX_WEIGHTS", str(tmp_path))
    params = srgan_jax.load("compact_x4")
    for name in sorted(os.listdir(shared_data / "benchmarks" / "BSD100" / "HR"))[1:4]:
        hr = images.read_image(shared_data / "benchmarks" / "BSD100" / "HR" / name).frames[0]
        sr = np.asarray(srgan_jax.upscale(params, hr[::4, ::4]))
        expected, lattice = reference.score(sr, hr, np.asarray(reference.relu3_4(hr)))
        x, y = sr.astype(np.float32) / 255, hr.astype(np.float32) / 255
        found = [METRICS[metric](x, y, border=4) for metric in metrics.expand(["texture"]) if metric != "phase"]
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        np.testing.assert_allclose(texture.lattice(x, y), lattice.ravel(), rtol=1e-9)
