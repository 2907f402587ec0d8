import io
import re
import socket
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file

from srgan_jax import cli, models, weights
from srgan_jax.runtime.errors import UserError
from srgan_jax.weights.ports import PORTS, files, niqe, resnet152v2, vgg19


@pytest.fixture(scope="module")
def tensors():
    """Random tensors of VGG19's shapes, so that every tensor and position has other values."""
    rng = np.random.default_rng(0)
    found, channels = {}, 3
    for layer, features in zip(vgg19.LAYERS, [64] * 2 + [128] * 2 + [256] * 4 + [512] * 8, strict=True):
        found[f"{layer}/kernel"] = rng.standard_normal((3, 3, channels, features), np.float32)
        found[f"{layer}/bias"] = rng.standard_normal(features, np.float32)
        channels = features
    return found


def _check(path, tensors, convention):
    ported = load_file(path)
    assert ported.keys() == tensors.keys()
    for name, value in tensors.items():
        np.testing.assert_array_equal(ported[name], value)
    assert weights.load_extractor("vgg19", path)[1]["convention"] == convention


@pytest.mark.parametrize("names", ["{layer}/{layer}_{short}_1:0", "{layer}/{layer}/{long}:0"])
def test_porting_vgg19_from_keras_h5(tmp_path, tensors, names):
    """Keras has written two layouts: `notop` of 2016, and `save_weights` since."""
    path = tmp_path / "notop.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.encode() for layer in ("input_1", *vgg19.LAYERS, "block5_pool")]
        file.create_group("block5_pool")
        for name, value in tensors.items():
            layer, kind = name.split("/")
            file[names.format(layer=layer, short={"kernel": "W", "bias": "b"}[kind], long=kind)] = value
    assert cli.main(["port", "vgg19", str(path), "--out", str(tmp_path / "out.safetensors")]) == 0
    _check(tmp_path / "out.safetensors", tensors, "caffe")


def test_porting_vgg19_from_npz(tmp_path, tensors):
    np.savez(tmp_path / "vgg.npz", **tensors)
    assert vgg19.port(tmp_path / "vgg.npz", tmp_path / "out.safetensors").endswith("caffe convention")
    _check(tmp_path / "out.safetensors", tensors, "caffe")
    vgg19.port(tmp_path / "vgg.npz", tmp_path / "out.safetensors", convention="torchvision")
    _check(tmp_path / "out.safetensors", tensors, "torchvision")


def test_porting_vgg19_from_torchvision_pth(tmp_path, tensors):
    """The ported extractor gives the features of a PyTorch network with the same weights."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (scripts/test.sh --torch)")
    layers, channels = [], 3
    for width, count in zip([64, 128, 256, 512, 512], [2, 2, 4, 4, 4], strict=True):
        for _ in range(count):
            layers += [torch.nn.Conv2d(channels, width, 3, padding=1), torch.nn.ReLU()]
            channels = width
        layers += [torch.nn.MaxPool2d(2)]
    network = torch.nn.Module()
    network.features = torch.nn.Sequential(*layers)
    torch.save(network.state_dict() | {"classifier.0.weight": torch.zeros(2, 2)}, tmp_path / "vgg.pth")
    assert vgg19.port(tmp_path / "vgg.pth", tmp_path / "out.safetensors").endswith("torchvision convention")
    variables, header = weights.load_extractor("vgg19", tmp_path / "out.safetensors")
    image = np.random.default_rng(1).random((1, 32, 32, 3), np.float32)
    fields = {"name": "vgg19", "taps": ("conv3_4", "relu5_4"), "convention": header["convention"]}
    ours = models.build(models.EXTRACTORS, fields).apply(variables, image)
    x = (image - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    x = torch.from_numpy(x.transpose(0, 3, 1, 2).astype(np.float32))
    with torch.no_grad():  # 17 modules end before the ReLU of conv3_4, 36 after that of conv5_4
        for tap, stop in (("conv3_4", 17), ("relu5_4", 36)):
            theirs = network.features[:stop](x).numpy().transpose(0, 2, 3, 1)
            np.testing.assert_allclose(ours[tap], theirs, rtol=1e-3, atol=1e-5 * np.abs(theirs).max())


def test_pickles_are_not_executed(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (scripts/test.sh --torch)")

    class MaliciousPickle:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"features.0.weight": MaliciousPickle()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="evil.pth can't be read safely"):
        vgg19.port(tmp_path / "evil.pth", tmp_path / "out.safetensors")
    assert not (tmp_path / "executed").exists()


def test_wrong_files_are_reported(tmp_path, tensors, capsys):
    broken = dict(tensors) | {"block1_conv1/kernel": np.zeros((5, 5, 3, 64), np.float32)}
    del broken["block3_conv4/bias"]
    np.savez(tmp_path / "broken.npz", **broken)
    assert cli.main(["port", "vgg19", str(tmp_path / "broken.npz"), "--out", str(tmp_path / "out.safetensors")]) == 2
    stderr = capsys.readouterr().err
    assert "block1_conv1/kernel: expected (3, 3, 3, 64), found (5, 5, 3, 64)" in stderr
    assert "block3_conv4/bias: expected (256,), found nothing" in stderr
    for arguments, message in [
        ([], "expected either one FILE or --download"),
        ([str(tmp_path / "vgg.onnx")], "expected a file ending in .h5, .npz, .pth"),
        ([str(tmp_path / "absent.h5")], "no such file"),
    ]:
        assert cli.main(["port", "vgg19", *arguments]) == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()


def test_digests_are_checked(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    files.check_digest(tmp_path / "file", "sha256", sha256)
    with pytest.raises(UserError, match="expected sha256 0000, got ba7816bf"):
        files.check_digest(tmp_path / "file", "sha256", "0000")


def test_a_missing_network_connection_is_reported(tmp_path, monkeypatch, capsys):
    def refuse(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert cli.main(["port", "niqe", "--download", "--out", str(tmp_path / "out.safetensors")]) == 2
    assert "can't be downloaded" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["vgg19", "--download"], ["vgg19", "--download", "keras"], ["resnet152v2", "--download"]]
)
def test_a_file_without_a_published_sha256_is_not_downloaded(arguments, monkeypatch, capsys):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("it was downloaded"))
    assert cli.main(["port", *arguments]) == 2
    said = capsys.readouterr().err
    file = f"{arguments[0]}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    assert f"no SHA-256 of {file} is published" in said and f"{file} && srgan-jax port {arguments[0]} {file}" in said


def test_every_download_has_a_sha256():
    published = {
        (name, key): (file.algorithm, file.digest)
        for name, port in PORTS.items()
        for key, file in port.official.items()
    }
    downloaded = {name: digest for name, digest in published.items() if digest[0]}
    assert downloaded.keys() == {("vgg19", "torchvision"), ("niqe", "basicsr")}
    assert all(kind == "sha256" and re.fullmatch("[0-9a-f]{64}", digest) for kind, digest in downloaded.values())


def test_a_missing_library_is_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "mine.h5").touch()
    assert cli.main(["port", "vgg19", str(tmp_path / "mine.h5")]) == 2
    assert "mine.h5 needs h5py: pip install h5py\n" in capsys.readouterr().err


def test_features_equal_reference_features(shared_data, tmp_path):
    folder = shared_data / "vgg19"
    vgg19.port(folder / "vgg19_conv_f16.npz", tmp_path / "vgg19.safetensors")
    variables, header = weights.load_extractor("vgg19", tmp_path / "vgg19.safetensors")
    with np.load(folder / "vgg19_golden.npz") as golden:
        taps = ("conv2_2", "relu2_2", "conv5_4", "relu5_4")
        fields = {"name": "vgg19", "taps": taps, "convention": header["convention"]}
        features = models.build(models.EXTRACTORS, fields).apply(variables, golden["image_uint8"][None] / 255.0)
        for tap, name in (("relu2_2", "block2_conv2_relu"), ("relu5_4", "block5_conv4_relu")):
            error = np.linalg.norm(features[tap][0] - golden[name]) / np.linalg.norm(golden[name])
            assert error < 1e-3
        for tap, name in (("conv2_2", "block2_conv2"), ("conv5_4", "block5_conv4")):
            assert float(features[tap].mean()) == pytest.approx(float(golden[f"{name}_pre_relu_mean"]), rel=1e-3)


def test_porting_resnet152v2_from_keras_h5(tmp_path, capsys):
    """From a file in Keras' layout; the ported extractor gives the features of the same layers in NumPy."""
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(0.2, 0.3, shape).astype(np.float32) for name, shape in resnet152v2.SHAPES.items()}
    tensors |= {name: np.abs(value) + 0.1 for name, value in tensors.items() if name.endswith("variance")}
    path, out = tmp_path / "resnet152v2_notop.h5", tmp_path / "out.safetensors"
    with h5py.File(path, "w") as file:
        file.create_group("conv2_block1_out")
        for name, value in tensors.items():
            layer, kind = name.split("/")
            file[f"{layer}/{layer}/{kind}:0"] = value
        file["conv2_block1_2_conv/conv2_block1_2_conv/kernel:0"] = np.zeros((3, 3, 64, 64))  # a layer that is not used
    assert cli.main(["port", "resnet152v2", str(path), "--out", str(out)]) == 0
    assert "ResNet152V2 up to conv2_block1_1_relu" in capsys.readouterr().out
    variables, header = weights.load_extractor("resnet152v2", out)
    image = rng.random((1, 12, 16, 3), np.float32)
    module = models.build(models.EXTRACTORS, {"name": "resnet152v2", "convention": header["convention"]})
    features = module.apply(variables, image)["conv2_block1_1_relu"]

    def norm(x, layer):
        gamma, beta, mean, variance = (tensors[f"{layer}/{kind}"] for kind in resnet152v2.NORMS)
        return gamma * (x - mean) / np.sqrt(variance + 1.001e-5) + beta

    x = np.pad(image[0] * 2 - 1, ((3, 3), (3, 3), (0, 0)))
    views = np.lib.stride_tricks.sliding_window_view(x, (7, 7), axis=(0, 1))[::2, ::2]  # [6, 8, 3, 7, 7]
    x = np.einsum("hwcij,ijco->hwo", views, tensors["conv1_conv/kernel"]) + tensors["conv1_conv/bias"]
    views = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((1, 1), (1, 1), (0, 0))), (3, 3), axis=(0, 1))
    x = np.maximum(norm(views[::2, ::2].max(axis=(3, 4)), "conv2_block1_preact_bn"), 0)
    x = np.maximum(norm(x @ tensors["conv2_block1_1_conv/kernel"][0, 0], "conv2_block1_1_bn"), 0)
    assert x.shape == features.shape[1:] == (3, 4, 64)
    np.testing.assert_allclose(features[0], x, rtol=1e-3, atol=1e-4 * x.max())


def test_wrong_resnet_files_are_reported(tmp_path, capsys):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["conv1_conv/conv1_conv/kernel:0"] = np.zeros((3, 3, 3, 64))
    assert cli.main(["port", "resnet152v2", str(tmp_path / "other.h5"), "--out", str(tmp_path / "out")]) == 2
    assert "conv1_conv/kernel: expected (7, 7, 3, 64), found (3, 3, 3, 64)" in capsys.readouterr().err


def test_weights_of_another_network_are_refused(tmp_path, extractor_file):
    with pytest.raises(UserError, match="holds resnet152v2, expected vgg19"):
        weights.load_extractor("vgg19", extractor_file("resnet152v2"))
    with pytest.raises(UserError, match="get them with: curl -fLO https.* && srgan-jax port resnet152v2 resnet"):
        weights.load_extractor("resnet152v2", tmp_path / "absent")


def _keras(path, make):
    """Writes a Keras `.h5` of ResNet152V2's first layers, the kernel of the first one by `make(group)`."""
    with h5py.File(path, "w") as file:
        for name, shape in resnet152v2.SHAPES.items():
            if name != "conv1_conv/kernel":
                file[name] = np.ones(shape, np.float32)
        make(file.require_group("conv1_conv"))


def test_an_h5_whose_values_lie_in_another_file_is_refused(tmp_path):
    """The secret file isn't copied to the output, by external storage, a virtual data set, or links."""
    shape, secret = resnet152v2.SHAPES["conv1_conv/kernel"], tmp_path / "secret"
    secret.write_bytes(np.full(shape, 7, np.float32).tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["kernel"] = np.full(shape, 7, np.float32)
    layout = h5py.VirtualLayout(shape, np.float32)
    layout[...] = h5py.VirtualSource(str(tmp_path / "other.h5"), "kernel", shape)
    makers = {
        "external": lambda group: group.create_dataset("kernel", shape, np.float32, external=str(secret)),
        "virtual": lambda group: group.create_virtual_dataset("kernel", layout),
        "link": lambda group: group.__setitem__("kernel", h5py.ExternalLink(str(tmp_path / "other.h5"), "kernel")),
    }
    for name, make in makers.items():
        _keras(tmp_path / f"{name}.h5", make)
        with pytest.raises(UserError, match=r"lie in another file|conv1_conv/kernel: expected .* found nothing"):
            resnet152v2.port(tmp_path / f"{name}.h5", tmp_path / "out.safetensors")
        assert not (tmp_path / "out.safetensors").exists()


def test_arrays_larger_than_their_file_are_refused_before_memory_is_taken(tmp_path):
    """4 GB of an `.h5` that was never written, and 40 GB of an `.npz` whose member has 4 bytes."""
    _keras(tmp_path / "a.h5", lambda group: group.create_dataset("kernel", (1 << 30,), np.float32, chunks=(1 << 20,)))
    with pytest.raises(UserError, match="expected numbers, of at most 16 times the size of the file"):
        resnet152v2.port(tmp_path / "a.h5", tmp_path / "out.safetensors")
    header = io.BytesIO()
    content = {"descr": "<f4", "fortran_order": False, "shape": (10**10,)}
    np.lib.format.write_array_header_1_0(header, content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("mu_pris_param.npy", header.getvalue() + bytes(4))
    with pytest.raises(UserError, match="expected numbers that fill its .* bytes"):
        niqe.port(tmp_path / "a.npz", tmp_path / "out.safetensors")


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".pth"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x80\x02", bytes(1000)])
def test_damaged_files_to_port_are_an_error_in_a_line(tmp_path, suffix, content, capsys):
    (tmp_path / f"a{suffix}").write_bytes(content)
    assert cli.main(["port", "vgg19", str(tmp_path / f"a{suffix}"), "--out", str(tmp_path / "out.safetensors")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and not (tmp_path / "out.safetensors").exists()
