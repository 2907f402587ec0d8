"""Tests that exported state dicts are read by PyTorch and by spandrel, and give the same images there."""

import sys

import helpers
import numpy as np
import pytest

import srgan_jax
from srgan_jax import cli, export

PLAIN = {"mean": (0.0, 0.0, 0.0), "img_range": 1.0}  # SPAN's variant "no_norm"
VARIATIONS = [
    {"name": "rrdb", "scale": 4},
    {"name": "rrdb", "scale": 1},
    {"name": "rrdb", "scale": 2, "unshuffle": 2},
    {"name": "rrdb", "scale": 4, "conv1x1": True},
    {"name": "srvggnet_compact", "scale": 4},
    {"name": "srvggnet_compact", "scale": 1, "activation": "relu"},
    {"name": "srvggnet_compact", "scale": 2, "activation": "leaky_relu_01"},
    {"name": "srvggnet_compact", "scale": 3, "activation": "prelu_shared"},
    {"name": "span", "scale": 2, **PLAIN, "blocks": 6},
]


def _weights(fields):
    return helpers.random_weights(**helpers.small_fields(fields, blocks=1, width=4))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("fields", VARIATIONS, ids=lambda fields: " ".join(map(str, fields.values())))
def test_spandrel_reads_the_file_and_gives_the_same_image(fields, suffix, tmp_path):
    torch = pytest.importorskip("torch")
    helpers.import_spandrel("util")
    import spandrel

    params, path = _weights(fields), tmp_path / f"a{suffix}"
    assert export.to_torch(params, path, {"licence": "CC0"}) < 1e-5
    found = spandrel.ModelLoader("cpu").load_from_file(path)
    assert found.scale == params.scale and found.input_channels == 3
    lr = np.random.default_rng(1).random((2, 14, 16, 3), np.float32)
    with torch.no_grad():
        sr = found.model(torch.from_numpy(lr.transpose(0, 3, 1, 2).copy())).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(sr.clip(0, 1), srgan_jax.upscale(params, lr), atol=1e-5)


@pytest.mark.parametrize("name", ["srgan_x4", "srgan_psnr_x4"])
def test_spandrel_opens_the_shipped_gan(name, tmp_path, photo):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    helpers.import_spandrel("util")
    import spandrel

    assert cli.main(["export", name, "--to", "torch", "-o", str(tmp_path / "x.pth")]) == 0
    found = spandrel.ModelLoader("cpu").load_from_file(tmp_path / "x.pth")
    assert (found.architecture.id, found.scale) == ("Compact", 4)
    lr = photo[:32, :24].astype(np.float32) / 255
    with torch.no_grad():
        theirs = found.model.eval()(torch.from_numpy(lr.transpose(2, 0, 1)[None]))[0].numpy().transpose(1, 2, 0)
    ours = srgan_jax.upscale(srgan_jax.load(name), lr, clip=False)
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_pytorch_reads_the_pth_without_code(tmp_path):
    torch = pytest.importorskip("torch")
    params = _weights({"name": "srvggnet_compact", "scale": 2})
    for half, dtype in ((False, torch.float32), (True, torch.float16)):
        export.to_torch(params, tmp_path / "a.pth", {"licence": "CC0"}, half=half)
        content = torch.load(tmp_path / "a.pth", weights_only=True)
        assert list(content) == ["params_ema", "metadata"] and content["metadata"]["licence"] == "CC0"
        assert float(content["metadata"]["largest_difference"]) < 0.01 and content["metadata"]["scale"] == "2"
        tensors = content["params_ema"]
        assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
            "body.0.weight": (4, 3, 3, 3), "body.0.bias": (4,), "body.1.weight": (4,),
            "body.2.weight": (4, 4, 3, 3), "body.2.bias": (4,), "body.3.weight": (4,),
            "body.4.weight": (12, 4, 3, 3), "body.4.bias": (12,),
        }  # fmt: skip
        assert all(tensor.dtype == dtype for tensor in tensors.values())
        kernel = np.asarray(params.variables["params"]["conv_00"]["kernel"], tensors["body.0.weight"].numpy().dtype)
        np.testing.assert_array_equal(tensors["body.2.weight"].numpy(), kernel.transpose(3, 2, 0, 1))


def test_without_pytorch_the_file_is_read_back(tmp_path, monkeypatch, capsys):
    for name in ("torch", "spandrel"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it weren't installed
    params = _weights({"name": "rrdb", "scale": 2})
    srgan_jax.save(tmp_path / "mine.safetensors", params)
    for suffix in (".pth", ".safetensors"):
        out = tmp_path / f"out{suffix}"
        assert cli.main(["export", str(tmp_path / "mine.safetensors"), "--to", "torch", "-o", str(out)]) == 0
        assert f"out{suffix}: 0.8 MB, differs from the original by at most 0.0e+00" in capsys.readouterr().out
        lr = np.random.default_rng(1).random((8, 9, 3), np.float32)
        np.testing.assert_array_equal(srgan_jax.upscale(srgan_jax.load(out), lr), srgan_jax.upscale(params, lr))


def test_what_the_files_cannot_hold_is_refused(tmp_path, capsys):
    for fields, message in (
        ({"name": "rrdb", "growth": 8}, "growth=8 and residual_scale=0.2: programs that read RRDB files expect 32"),
        ({"name": "span", "img_range": 1.0}, "img_range=1.0: programs that read SPAN files expect"),
        ({"name": "compact"}, "compact has no PyTorch state dict that other programs read: expected one of rrdb"),
    ):
        with pytest.raises(ValueError, match=message):
            export.to_torch(_weights(fields), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.bin: expected a file name that ends in \.safetensors or \.pth"):
        export.to_torch(_weights({"name": "srvggnet_compact"}), tmp_path / "a.bin")
    for arguments, message in (
        (["--to", "torch", "--opset", "14"], "--to torch has no option --opset; expected --to onnx"),
        (["--to", "ncnn", "--half"], "--to ncnn has no option --half; expected --to onnx or --to torch"),
        (["--to", "stablehlo", "--size", "8", "8"], "--to stablehlo has no option --size; expected --to onnx"),
    ):
        assert cli.main(["export", "compact_x4", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
