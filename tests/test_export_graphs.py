"""Tests that generators written as ONNX and ncnn give the same images there, with few operators."""

import collections
import json
import math
import re

import helpers
import jax
import numpy as np
import pytest

import srgan_jax
from srgan_jax import cli, export, models

onnx = pytest.importorskip("onnx", reason='pip install "srgan-jax[onnx]"')
onnxruntime = pytest.importorskip("onnxruntime", reason='pip install "srgan-jax[onnx]"')
SMALL = {"blocks": 1, "width": 4, "growth": 4, "upsampling_width": 4}
TRANSFORMER = {"depths": (2,), "heads": (2,), "width": 16, "head_width": 8}
PLAIN = {"mean": (0.0, 0.0, 0.0), "img_range": 1.0}  # SPAN without its factor of 255, which random kernels amplify
VARIATIONS = [
    {"name": "compact", "scale": 1},
    {"name": "compact", "scale": 3},
    {"name": "compact", "scale": 4},
    {"name": "srvggnet_compact", "scale": 1},
    {"name": "srvggnet_compact", "scale": 2, "activation": "relu"},
    {"name": "srvggnet_compact", "scale": 4, "activation": "leaky_relu_01"},
    {"name": "rrdb", "scale": 1},
    {"name": "rrdb", "scale": 4},
    {"name": "rrdb", "scale": 2, "unshuffle": 2},
    {"name": "rrdb", "scale": 1, "unshuffle": 4},
    {"name": "rrdb", "scale": 4, "conv1x1": True},
    {"name": "msrresnet", "scale": 3},
    {"name": "msrresnet", "scale": 4},
    {"name": "span", "scale": 2, **PLAIN},
    {"name": "span", "scale": 4, "mean": (0.45, 0.44, 0.4), "img_range": 2.0},
    {"name": "realplksr", "scale": 4, "width": 8, "groups": 2, "kernel_size": 5},
    {"name": "realplksr", "scale": 1, "width": 8, "partial": 1.0, "elementwise_attention": False},
    {"name": "realplksr", "scale": 4, "width": 8, "groups": 2, "kernel_size": 5, "dysample": True},
    {"name": "realplksr", "scale": 3, "width": 8, "kernel_size": 3, "dysample": True, "layer_norm": True},
    {"name": "realplksr", "scale": 1, "width": 8, "kernel_size": 3, "dysample": True},
    {"name": "swinir", "scale": 4, **TRANSFORMER, "depths": (2, 1), "heads": (2, 4), "window": 4},
    {"name": "swinir", "scale": 3, **TRANSFORMER, "depths": (1,), "upsampling": "direct"},
    {"name": "swinir", "scale": 2, **TRANSFORMER, "window": 2, "upsampling": "nearest", "unshuffle": 2},
    {"name": "swinir", "scale": 1, **TRANSFORMER, "window": 7, "upsampling": "none", "residual": "3conv"},
    {"name": "dat", "scale": 2, **TRANSFORMER, "depths": (4, 1), "heads": (2, 4), "split": (2, 4), "norm": "batch"},
    {"name": "dat", "scale": 3, **TRANSFORMER, "depths": (3,), "norm": "none", "residual": "3conv", "qkv_bias": False},
    {"name": "edsr", "scale": 1, "residual_scale": 0.1},
    {"name": "edsr", "scale": 4},
    {"name": "restoration"},
    {"name": "restoration", "padding": "keras"},
    {"name": "srresnet", "scale": 4},
    {"name": "srresnet", "scale": 3, "norm": "none", "base": "bicubic"},
    {"name": "srresnet", "scale": 4, "norm": "none", "base": "bicubic", "upsampling": "nearest"},
    {"name": "srresnet", "scale": 2, "output": "tanh", "base": "bilinear", "activation": "relu"},
    {"name": "srresnet", "scale": 2, "output": "tanh", "input_range": "imagenet", "output_range": "imagenet"},
    {"name": "srresnet", "scale": 4, "block_order": "activation_norm", "activation": "leaky_relu"},
    {"name": "srresnet", "scale": 8, "shared_blocks": True, "base": "bilinear"},
    {"name": "srresnet", "scale": 2, "trunk": "activation", "activation": "prelu_shared", "norm_upsampling": True},
]


def _name(fields):
    return " ".join(str(value) for value in fields.values()).replace("(", "").replace(")", "").replace(",", "")


def _with_half_kernels(params):
    """Returns a generator whose kernels are float16 numbers."""
    round_kernel = lambda leaf: np.float32(np.float16(leaf)) if np.ndim(leaf) == 4 else leaf  # noqa: E731
    return params.replace(variables=jax.tree.map(round_kernel, params.variables))


def _run_onnx(path, lr, dtype=np.float32):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (sr,) = session.run(["sr"], {"lr": np.ascontiguousarray(lr.transpose(0, 3, 1, 2), dtype)})
    return np.float32(sr).transpose(0, 2, 3, 1)


def _operators(path):
    return collections.Counter(node.op_type for node in onnx.load(path).graph.node)


def test_every_generator_has_a_graph():
    assert models.GENERATORS.keys() == export.GRAPHS.keys() == {fields["name"] for fields in VARIATIONS}


@pytest.mark.slow
@pytest.mark.parametrize("fields", VARIATIONS, ids=_name)
def test_onnx_equals_the_generator(fields, tmp_path):
    params = helpers.random_weights(**helpers.small_fields(fields, **SMALL))
    path = tmp_path / "a.onnx"
    assert export.to_onnx(params, path, {"dataset": "chelsea"}) < 1e-5
    for size in ((1, 5, 31), (3, 16, 8)):  # sizes that the export did not check
        lr = np.random.default_rng(1).random((*size, 3), np.float32)
        np.testing.assert_allclose(_run_onnx(path, lr), srgan_jax.upscale(params, lr), atol=1e-5)
    model = onnx.load(path)
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert about["dataset"] == "chelsea" and about["scale"] == str(params.scale)
    assert 0 <= float(about["largest_difference"]) < 1e-5
    assert model.opset_import[0].version == (16 if fields.get("dysample") else 13)
    for index, length in enumerate((1, 3, 16, 16)):  # as chaiNNer finds the scale
        model.graph.input[0].type.tensor_type.shape.dim[index].dim_value = length
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.output[0].type.tensor_type.shape.dim
    assert [side.dim_value for side in inferred][1:] == [3, 16 * params.scale, 16 * params.scale]


def test_onnx_of_compact_has_31_nodes(tmp_path):
    export.to_onnx(helpers.random_weights(name="compact", blocks=6, width=4), tmp_path / "a.onnx")
    # lr - 0.5; the first convolution; 6 blocks of 2 convolutions, PReLU and addition; the last convolution, pixel
    # shuffle, interpolation, addition, clipping: 1 + 1 + 6 * 4 + 5 = 31.
    assert _operators(tmp_path / "a.onnx") == {
        "Conv": 14, "PRelu": 6, "Add": 8, "DepthToSpace": 1, "Resize": 1, "Clip": 1
    }  # fmt: skip


def test_onnx_of_srresnet_has_norms_and_ranges_in_the_kernels(tmp_path):
    export.to_onnx(helpers.random_weights(name="srresnet", blocks=2, width=4), tmp_path / "a.onnx")
    # Convolutions: first, 2 * 2 in the blocks, trunk, 2 upsamplings, last. PReLU: after the first, one in each block,
    # after each pixel shuffle. Additions: one for each block, and the long skip.
    assert _operators(tmp_path / "a.onnx") == {"Conv": 9, "PRelu": 5, "Add": 3, "DepthToSpace": 2, "Clip": 1}


def test_options_of_onnx(tmp_path, capsys):
    params = helpers.random_weights(name="compact", blocks=1, width=4)
    srgan_jax.save(tmp_path / "small.safetensors", params)
    out = tmp_path / "a.onnx"
    command = ["export", str(tmp_path / "small.safetensors"), "--to", "onnx", "-o", str(out)]
    assert cli.main([*command, "--half", "--opset", "17", "--size", "9", "12"]) == 0
    assert "a.onnx: 0.0 MB, differs from the original by at most" in capsys.readouterr().out
    model = onnx.load(out)
    assert model.opset_import[0].version == 17
    assert {array.data_type for array in model.graph.initializer} == {onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT}
    assert [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 9, 12]
    assert [side.dim_value for side in model.graph.output[0].type.tensor_type.shape.dim] == [1, 3, 36, 48]
    lr = np.random.default_rng(1).random((1, 9, 12, 3), np.float32)
    # float16 has 11 bits: values below 1 are rounded by up to 2**-12, in each of the layers
    np.testing.assert_allclose(_run_onnx(out, lr, np.float16), srgan_jax.upscale(params, lr), atol=0.005)
    for options, message in (
        (["--opset", "12"], "opset=12: expected 13, the lowest for this compact, to"),
        (["--size", "0", "3"], "size=(0, 3): expected the height and the width of the LR image"),
    ):
        assert cli.main([*command, *options, "--overwrite"]) == 2
        assert message in capsys.readouterr().err


def test_a_generator_without_a_graph_is_refused_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(models.GENERATORS, "mine", type("Mine", (models.GENERATORS["compact"],), {}))
    params = helpers.random_weights(name="mine", blocks=1, width=4)
    for write in (export.to_onnx, export.to_ncnn):
        with pytest.raises(ValueError, match=r"mine can't be written .* --to stablehlo, or add .*GRAPHS"):
            write(params, tmp_path / "a.param")
    monkeypatch.setitem(export.GRAPHS, "mine", export.GRAPHS["compact"])
    assert export.to_onnx(params, tmp_path / "a.onnx") < 1e-5
    with pytest.raises(ValueError, match="mine has no PyTorch state dict"):
        export.to_torch(params, tmp_path / "a.pth")


@pytest.mark.slow
@pytest.mark.parametrize("fields", [f for f in VARIATIONS if f.get("dysample") or "depths" in f][::3], ids=_name)
def test_a_graph_with_attention_or_sampling_has_one_form_for_each_opset(fields, tmp_path):
    """The newest operators, the fixed size and float16 give the same image; so does one that is less than a window."""
    params = helpers.random_weights(**helpers.small_fields(fields, **SMALL))
    assert export.to_onnx(params, tmp_path / "a.onnx", opset=onnx.defs.onnx_opset_version()) < 1e-5
    lr = np.random.default_rng(1).random((1, 3, 2, 3), np.float32)
    np.testing.assert_allclose(_run_onnx(tmp_path / "a.onnx", lr), srgan_jax.upscale(params, lr), atol=1e-5)
    assert export.to_onnx(params, tmp_path / "b.onnx", half=True, size=(13, 9)) < 0.02
    if fields.get("dysample"):
        with pytest.raises(ValueError, match="opset=15: expected 16, the lowest for this realplksr, to "):
            export.to_onnx(params, tmp_path / "c.onnx", opset=15)


@pytest.fixture
def ncnn():
    return pytest.importorskip("ncnn", reason='pip install "srgan-jax[ncnn]"')


def _run_ncnn(ncnn, path, image):
    """Returns the SR of `image [H, W, 3]`, by the names that realesrgan-ncnn-vulkan uses."""
    net = ncnn.Net()
    net.opt.use_vulkan_compute = net.opt.use_fp16_storage = net.opt.use_fp16_packed = False
    net.opt.use_fp16_arithmetic = False
    assert net.load_param(str(path)) == 0 and net.load_model(str(path.with_suffix(".bin"))) == 0
    extractor, pixels = net.create_extractor(), np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)
    extractor.input("data", ncnn.Mat(pixels).clone())
    status, sr = extractor.extract("output")
    assert status == 0
    return np.array(sr).transpose(1, 2, 0)


LACKING = {
    "dat": "channel_attention, layer_norm, pad",
    "swinir": "layer_norm, pad_to_multiple, window",
    "realplksr": "sample",
}


@pytest.mark.parametrize("name", LACKING)
def test_generators_that_ncnn_of_2022_lacks_layers_for_are_refused(name, tmp_path, ncnn):
    fields = next(f for f in VARIATIONS if f["name"] == name and f.get("dysample", name != "realplksr"))
    params = helpers.random_weights(**helpers.small_fields(fields, **SMALL))
    with pytest.raises(ValueError, match=f"{name} has the operations {LACKING[name]}.* for which ncnn 20220729"):
        export.to_ncnn(params, tmp_path / "a.param")
    assert list(tmp_path.iterdir()) == []


def test_layers_of_ncnn_without_a_generator(tmp_path, monkeypatch, ncnn):
    """A depthwise convolution, GELU and a mean over the image, on arithmetic in NumPy."""

    def graph(graph):
        kernel = np.full((3, 1, 3, 3), 1 / 8, np.float32)
        x = graph.convolve(graph.input, kernel, np.full(3, 0.25, np.float32), pad=1, groups=3)
        return graph.add("mul", graph.add("gelu", x), graph.add("global_mean", graph.input))

    monkeypatch.setitem(export.GRAPHS, "compact", graph)
    monkeypatch.setattr("srgan_jax.export.ncnn.largest_difference", lambda *args, **options: 0.0)
    export.to_ncnn(helpers.random_weights(name="compact", blocks=0, width=4, scale=1), tmp_path / "a.param")
    lr = np.random.default_rng(1).random((6, 7, 3), np.float32)
    padded = np.pad(lr, ((1, 1), (1, 1), (0, 0)))
    x = sum(padded[i : i + 6, j : j + 7] for i in range(3) for j in range(3)) / 8 + 0.25
    expected = x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2 * lr.mean(axis=(0, 1))
    np.testing.assert_allclose(_run_ncnn(ncnn, tmp_path / "a.param", lr), expected.clip(0, 1), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("fields", [f for f in VARIATIONS if "depths" not in f and "dysample" not in f], ids=_name)
def test_ncnn_equals_the_generator(fields, tmp_path, ncnn):
    params = _with_half_kernels(helpers.random_weights(**helpers.small_fields(fields, **SMALL)))
    path = tmp_path / "a-x4.param"
    assert export.to_ncnn(params, path, {"dataset": "chelsea"}) < 2e-3
    lr = np.random.default_rng(1).random((21, 18, 3), np.float32)
    # Kernels in which a norm, a range or branches were folded are no float16 numbers: 11 bits of 3 values below 1.
    exact = fields["name"] in ("compact", "srvggnet_compact", "rrdb", "msrresnet")
    np.testing.assert_allclose(_run_ncnn(ncnn, path, lr), srgan_jax.upscale(params, lr), atol=2e-5 if exact else 2e-3)
    about = json.loads((tmp_path / "a-x4.json").read_text())
    assert about["dataset"] == "chelsea" and float(about["largest_difference"]) < 2e-3
    lines = path.read_text().splitlines()
    layers, blobs = map(int, lines[1].split())
    assert lines[0] == "7767517" and layers == len(lines) - 2
    assert blobs == sum(int(line.split()[3]) for line in lines[2:])
    # ncnn 20220729 reads at most 15 characters of a number.
    assert all(len(value) <= 15 for value in re.findall(r"=(\S+)", path.read_text()))


def _tiled(run, image, tile, scale, padding=10):
    """Returns SR as realesrgan-ncnn-vulkan computes it: tiles with `padding` around them, mirrored at the border."""
    height, width = image.shape[:2]
    mirrored = np.pad(image, ((padding, padding), (padding, padding), (0, 0)), mode="reflect")
    sr = np.zeros((height * scale, width * scale, 3), np.float32)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            part = run(mirrored[top : bottom + 2 * padding, left : right + 2 * padding])
            inner = part[padding * scale : -padding * scale, padding * scale : -padding * scale]
            sr[top * scale : bottom * scale, left * scale : right * scale] = inner
    return sr


def test_ncnn_in_the_tiles_of_realesrgan_ncnn_vulkan(tmp_path, photo, ncnn):
    params = _with_half_kernels(helpers.random_weights(name="compact", blocks=3, width=8, scale=4))
    path, lr = tmp_path / "a-x4.param", photo[:50, :70] / np.float32(255)
    export.to_ncnn(params, path)
    tiles = _tiled(lambda part: _run_ncnn(ncnn, path, part), lr, 32, 4)
    # The receptive field's radius is 1 + 3 * 2 + 1 = 8 < 10 LR pixels: tiles are exact, but for the mirrored border.
    mirrored = np.pad(lr, ((10, 10), (10, 10), (0, 0)), mode="reflect")
    np.testing.assert_allclose(tiles, srgan_jax.upscale(params, mirrored)[40:-40, 40:-40], atol=2e-5)
    whole = np.asarray(srgan_jax.upscale(params, lr))
    np.testing.assert_allclose(tiles[32:-32, 32:-32], whole[32:-32, 32:-32], atol=2e-5)


def test_names_of_ncnn_files_have_the_scale_once(tmp_path, monkeypatch, capsys, ncnn):
    monkeypatch.chdir(tmp_path)
    params = helpers.random_weights(name="compact", blocks=0, width=4, scale=2)
    for name, expected in (("mine", "mine-x2"), ("mine_x2", "mine_x2")):
        srgan_jax.save(f"{name}.safetensors", params)
        assert cli.main(["export", f"{name}.safetensors", "--to", "ncnn"]) == 0
        assert f"{expected}.param, {expected}.bin, {expected}.json: 0.0 MB" in capsys.readouterr().out
    (tmp_path / "mine-x2.param").unlink()
    assert cli.main(["export", "mine.safetensors", "--to", "ncnn"]) == 2
    assert "mine-x2.bin exists; choose another --out, or add --overwrite" in capsys.readouterr().err
    assert cli.main(["export", "mine.safetensors", "--to", "ncnn", "-o", "mine.ncnn"]) == 2
    assert "expected a file name that ends in .param" in capsys.readouterr().err


def test_operations_that_ncnn_of_2022_lacks_are_refused(tmp_path, monkeypatch, ncnn):
    monkeypatch.setitem(export.GRAPHS, "compact", lambda graph: graph.add("grid_sample", graph.input))
    params = helpers.random_weights(name="compact", blocks=0, width=4, scale=1)
    with pytest.raises(ValueError, match=r"compact has the operations grid_sample, for which ncnn 20220729"):
        export.to_ncnn(params, tmp_path / "a.param")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", ["to_onnx", "to_ncnn"])
def test_a_graph_that_differs_is_refused(write, tmp_path, monkeypatch, ncnn):
    def wrong(graph):
        return graph.affine(graph.input, 1.0, 0.001)

    monkeypatch.setitem(export.GRAPHS, "compact", wrong)
    params = helpers.random_weights(name="compact", blocks=0, width=4, scale=1)
    with pytest.raises(ValueError, match=r"differs from the original by .*nothing was written"):
        getattr(export, write)(params, tmp_path / "a.param")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_community_model_gives_its_published_output_in_both_runtimes(shared_data, tmp_path, ncnn):
    folder = shared_data / "community"
    params = srgan_jax.load(folder / "compact_16_convs_x4_f16.pth")
    lr, golden = np.load(folder / "lr48.npy") / np.float32(255), np.load(folder / "compact_16_convs_x4_golden.npy")
    export.to_onnx(params, tmp_path / "a.onnx")
    np.testing.assert_allclose(_run_onnx(tmp_path / "a.onnx", lr[None])[0], golden.clip(0, 1), atol=1e-5)
    export.to_ncnn(params, tmp_path / "a-x4.param")  # exact, because the published kernels are float16
    np.testing.assert_allclose(_run_ncnn(ncnn, tmp_path / "a-x4.param", lr), golden.clip(0, 1), atol=1e-5)
