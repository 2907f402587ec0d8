"""Tests of the shipped generators, and of the commands that use them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

import srgan_jax
from srgan_jax import cli, weights
from srgan_jax.degradations import DEGRADATIONS
from srgan_jax.evaluation import scoring
from srgan_jax.evaluation.pairs import degrade_pairs, make_pair
from srgan_jax.weights import pretrained

ROOT = Path(__file__).parents[1]
SHIPPED = ("compact_x4", "photo_x4", "srgan_psnr_x4", "srgan_x4")
CARD = {"purpose", "good_at", "bad_at", "data", "data_licences", "licence", "command", "updates", "hardware"}


def test_documents_name_only_shipped_generators():
    """Users could not load any other generator that a document names."""
    assert tuple(pretrained.names()) == SHIPPED and pretrained.DEFAULT in SHIPPED
    for page in ("README.md", "RESULTS.md", "configs/finetune.py", "configs/photo.py"):
        text = (ROOT / page).read_text()
        named = re.findall(r"(?:load\(\"|--weights |srgan-jax info |init_from=|init_from = \")(\w+_x\d)\b", text)
        assert named and set(named) <= set(SHIPPED), page


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_file_is_small_and_has_a_card(name):
    path = pretrained.path_of(name)
    assert path.stat().st_size <= 4_000_000
    with safe_open(path, framework="numpy") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {np.dtype("float16")}  # noqa: SIM118
    card = weights.read_provenance(name)
    assert set(card) >= CARD and all(card.values())
    assert any(key.startswith("validation_") for key in card)
    assert not re.search(r"/(work|tmp|home|root)/", json.dumps(card))
    loaded = srgan_jax.load(name)
    assert loaded.scale == 4 and loaded.variables["params"]["conv_in"]["kernel"].dtype == np.float32


@pytest.mark.parametrize(
    ("name", "degradation", "gain"), [("compact_x4", "", 0.5), ("photo_x4", "photo", 0.2), ("srgan_psnr_x4", "", 0.5)]
)
def test_a_shipped_generator_beats_bicubic_on_its_degradation(name, degradation, gain, photo):
    """PSNR-Y on a photograph that neither was trained on; `photo` degrades it with three keys."""
    pairs = [make_pair(f"chelsea {index}", photo, 4) for index in range(3 if degradation else 1)]
    if degradation:
        pairs = degrade_pairs(pairs, lambda key, hr: DEGRADATIONS[degradation].degrade(key, hr, scale=4))
    params = srgan_jax.load(name)
    ours = scoring.score(pairs, [np.asarray(srgan_jax.upscale(params, pair.lr)) for pair in pairs])
    bicubic = scoring.score(pairs, [scoring.bicubic(pair.lr, 4) for pair in pairs])
    assert scoring.mean(ours)["psnr_y"] > scoring.mean(bicubic)["psnr_y"] + gain


def test_the_gan_has_texture_and_agrees_with_lr(photo):
    """Beside its PSNR partner. A half of each is in between, which is what --strength writes."""
    pair = make_pair("chelsea", photo, 4)
    weights_of = {1.0: srgan_jax.load("srgan_x4"), 0.0: srgan_jax.load("srgan_psnr_x4")}
    weights_of[0.5] = weights.load_blended("srgan_x4", 0.5)
    names = ("power_25", "power_375", "place", "flat", "lr_psnr", "psnr_y")
    found = {
        strength: scoring.mean(scoring.score([pair], [np.asarray(srgan_jax.upscale(params, pair.lr))], names))
        for strength, params in weights_of.items()
    }
    gan, half, partner = found[1.0], found[0.5], found[0.0]
    assert all(abs(gan[name]) < 5 and partner[name] < -7 for name in ("power_25", "power_375"))  # dB; HR: 0
    assert gan["place"] > partner["place"] and gan["flat"] < 1.3 and gan["lr_psnr"] > 43
    assert partner["power_25"] < half["power_25"] < gan["power_25"]
    assert gan["psnr_y"] < half["psnr_y"] < partner["psnr_y"]


def test_upscale_uses_and_reports_the_default_weights(tmp_path, photo, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo[:24, :32]).save("a.png")
    (tmp_path / "photo_x4").mkdir()  # a folder of results that happens to have that name
    assert cli.main(["upscale", "a.png"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "1 upscaled to a_x4.png\n" and captured.err.startswith(
        "weights: photo_x4 (default; --list-weights"
    )
    expected = np.asarray(srgan_jax.upscale(srgan_jax.load("photo_x4"), photo[:24, :32])).astype(int)
    with Image.open("a_x4.png") as image:
        assert np.abs(np.asarray(image).astype(int) - expected).max() <= 1
    assert cli.main(["upscale", "a.png", "-o", "b.png", "--weights", "compact_x4"]) == 0
    assert "weights:" not in capsys.readouterr().err
    with Image.open("b.png") as image:
        assert np.abs(np.asarray(image).astype(int) - expected).max() > 1


def test_weights_are_listed_and_described(capsys):
    assert cli.main(["upscale", "--list-weights"]) == 0
    lines = capsys.readouterr().out.splitlines()
    purposes = {name: weights.read_header(name)["purpose"] for name in SHIPPED}
    assert lines[0] == f"compact_x4: {purposes['compact_x4']}"
    assert lines[1] == f"photo_x4 (default): {purposes['photo_x4']}"
    assert cli.main(["info", "photo_x4"]) == 0
    output = capsys.readouterr().out
    assert "architecture: compact: blocks 6, width 40, scale 4" in output and "parameters: 191,968" in output
    card = weights.read_provenance("photo_x4")
    assert all(f"{key.replace('_', ' ')}: {value}\n" in output for key, value in card.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["upscale"], "expected at least one image or folder: srgan-jax upscale photo.jpg"),
        (
            ["upscale", "{photo}", "--weights", "mine_x4"],
            "no weights at mine_x4; shipped weights: compact_x4, photo_x4, srgan_psnr_x4, srgan_x4",
        ),
        (["info", "mine_x4"], "no weights at mine_x4; shipped weights: compact_x4, photo_x4, srgan_psnr_x4, srgan_x4"),
        (["evaluate", "--data", ".", "--degradation", "foto"], "unknown degradation 'foto'; valid: bicubic"),
    ],
)
def test_usage_errors_are_reported_in_one_line(arguments, message, tmp_path, photo, capsys):
    Image.fromarray(photo[:24, :32]).save(tmp_path / "a.png")
    assert cli.main([argument.format(photo=tmp_path / "a.png") for argument in arguments]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_without_shipped_files_weights_must_be_given(tmp_path, photo, capsys, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "absent")
    Image.fromarray(photo[:24, :32]).save(tmp_path / "a.png")
    assert cli.main(["upscale", str(tmp_path / "a.png")]) == 2
    assert "--weights is required; expected one of: " in capsys.readouterr().err


def test_evaluate_makes_lr_by_a_degradation(tmp_path, photo, capsys):
    Image.fromarray(photo[:64, :80]).save(tmp_path / "a.png")

    def table(*options):
        assert cli.main(["evaluate", "--data", str(tmp_path), "--metrics", "psnr_y", *options]) == 0
        return capsys.readouterr().out

    degraded = table("--degradation", "photo")
    assert (
        "- LR: degradation photo, random key of each image derived from its name" in degraded
        and "convention A" not in degraded
    )
    assert table("--degradation", "photo") == degraded
    score = {text: float(text.splitlines()[2].split()[2]) for text in (table(), degraded)}
    assert score[degraded] < max(score.values())
