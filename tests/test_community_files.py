"""Generators of other programs as people have them: golden outputs, detection, wrappers, refusals, commands."""

import argparse
import hashlib
import itertools
import json
import sys
import zipfile

import helpers
import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

import srgan_jax
from srgan_jax import cli, inference
from srgan_jax.runtime.errors import UserError
from srgan_jax.weights import importers, recognition
from srgan_jax.weights.layouts import LAYOUTS

ERROR = "is not a generator that is known: "


def _file(folder, name, tensors):
    """Writes tensors to a `.safetensors` without a header, as other programs do, and returns the path."""
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


# ------------------------------------------------------------------------------------------------- golden outputs

# RRDB: a dense block has 3x3 convolutions from 64, 96, 128, 160 to 32 channels and from 192 to 64, a block 3 of them.
DENSE = sum((9 * (64 + 32 * index) + 1) * 32 for index in range(4)) + (9 * 192 + 1) * 64
RRDB_OUTER = (9 * 3 + 1) * 64 + 4 * (9 * 64 + 1) * 64 + (9 * 64 + 1) * 3  # first; trunk, two up, HR; last
COMPACT = (9 * 3 + 1) * 64 + 16 * (9 * 64 + 1) * 64 + 17 * 64 + (9 * 64 + 1) * 48  # 17 vectors of slopes
GOLDEN = {
    "compact_16_convs_x4": ("compact", COMPACT, 621_424),
    "rrdb_6_blocks_x4": ("rrdb", 6 * 3 * DENSE + RRDB_OUTER, 4_467_779),
    "rrdb_23_blocks_x4": ("rrdb", 23 * 3 * DENSE + RRDB_OUTER, 16_697_987),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if "rrdb" in n else []) for n in GOLDEN])
def test_community_models_give_the_outputs_computed_elsewhere(shared_data, name, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it weren't installed
    folder = shared_data / "community"
    params, provenance = importers.import_with_provenance(folder / f"{name}_f16.pth")
    layout, count, published = GOLDEN[name]
    assert provenance["source"] == layout and params.parameter_count() == count == published
    lr = np.load(folder / "lr48.npy").astype(np.float32) / 255
    with jax.default_matmul_precision("highest"):
        sr = srgan_jax.upscale(params, lr, clip=False)
    np.testing.assert_allclose(sr, np.load(folder / f"{name}_golden.npy"), atol=1e-5)


# ------------------------------------------------------------------------------------------------------ spellings


def _random_(module, torch, spread):
    generator = torch.Generator().manual_seed(0)
    for value in module.parameters():
        value.data += spread * torch.randn(value.shape, generator=generator)
    return module.eval()


def _later_spelling(name):
    """Returns the name in ESRGAN's later code of a tensor in its first code, of a network of two blocks and x4."""
    numbers = {"0": "conv_first", "3": "upconv1", "6": "upconv2", "8": "HRconv", "10": "conv_last"}
    parts = name.split(".")
    if parts[1] != "1":
        return f"{numbers[parts[1]]}.{parts[-1]}"
    if parts[3] == "2":
        return f"trunk_conv.{parts[-1]}"
    return f"RRDB_trunk.{parts[3]}.{parts[4]}.{parts[5]}.{parts[-1]}"


def _newest_spelling(name):
    name = _later_spelling(name).replace("RRDB_trunk", "body").replace("RDB", "rdb").replace("trunk_conv", "conv_body")
    return name.replace("upconv", "conv_up").replace("HRconv", "conv_hr")


RRDB = [
    ("rrdb-old", {}, None),
    ("rrdb-old", {"plus": True}, None),
    ("rrdb-old", {"scale": 1}, None),
    ("rrdb-old", {"scale": 2, "num_blocks": 1}, None),
    ("rrdb-old", {"scale": 8, "num_blocks": 1}, None),
    ("rrdb-trunk", {}, _later_spelling),
    ("rrdb", {"plus": True}, _newest_spelling),
    ("rrdb", {"in_nc": 12, "shuffle_factor": 2}, _newest_spelling),
    ("rrdb", {"in_nc": 48, "shuffle_factor": 4}, _newest_spelling),
]


@pytest.mark.parametrize(
    ("layout", "fields", "spelling"), RRDB, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_rrdb_in_every_spelling_equals_spandrel(tmp_path, layout, fields, spelling):
    """Also where LR isn't a multiple of the blocks of pixels that become channels."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (scripts/test.sh --torch)")
    kind = helpers.import_spandrel("architectures.ESRGAN.__arch.RRDB").RRDBNet
    module = _random_(kind(**{"num_filters": 8, "num_blocks": 2, **fields}), torch, 0.03)
    state = {(spelling or str)(name): value for name, value in module.state_dict().items()}
    torch.save(state, tmp_path / "a.pth")
    params, provenance = importers.import_with_provenance(tmp_path / "a.pth")
    assert provenance["source"] == layout
    assert params.scale == fields.get("scale", 4) // fields.get("shuffle_factor", 1)
    assert params.parameter_count() == sum(value.numel() for value in module.parameters())
    lr = np.random.default_rng(1).random((11, 13, 3), np.float32)
    with torch.no_grad():
        theirs = module(torch.from_numpy(lr.transpose(2, 0, 1).copy())[None])[0].numpy().transpose(1, 2, 0)
    with jax.default_matmul_precision("highest"):
        np.testing.assert_allclose(srgan_jax.upscale(params, lr, clip=False), theirs, atol=1e-5)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_compact_of_any_scale_equals_spandrel(tmp_path, scale):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (scripts/test.sh --torch)")
    kind = helpers.import_spandrel("architectures.Compact.__arch.SRVGG").SRVGGNetCompact
    module = _random_(kind(num_feat=6, num_conv=3, upscale=scale), torch, 0.1)
    torch.save({"params": module.state_dict()}, tmp_path / "a.pth")
    lr = np.random.default_rng(1).random((7, 9, 3), np.float32)
    with torch.no_grad():
        theirs = module(torch.from_numpy(lr.transpose(2, 0, 1).copy())[None])[0].numpy().transpose(1, 2, 0)
    with jax.default_matmul_precision("highest"):
        sr = srgan_jax.upscale(srgan_jax.load(tmp_path / "a.pth"), lr, clip=False)
    np.testing.assert_allclose(sr, theirs, atol=1e-5)


def test_the_activation_of_a_compact_without_slopes_is_an_option(tmp_path, capsys):
    path = str(_file(tmp_path, "a", helpers.compact_tensors(slopes=False)))
    assert srgan_jax.load(path).architecture["activation"] == "relu"
    out = str(tmp_path / "out.safetensors")
    assert cli.main(["import", path, "--option", "activation=leaky_relu_01", "-o", out]) == 0
    assert srgan_jax.load(out).architecture["activation"] == "leaky_relu_01"
    assert cli.main(["import", path, "--option", "activation=tanh", "-o", out, "--overwrite"]) == 2
    assert cli.main(["import", path, "--option", "act=relu", "-o", out, "--overwrite"]) == 2
    assert cli.main(["import", path, "--option", "relu", "-o", out, "--overwrite"]) == 2
    stderr = capsys.readouterr().err
    assert "activation='tanh': expected relu or leaky_relu_01" in stderr
    assert "unknown option of compact 'act'; valid: activation" in stderr
    assert "--option relu: expected KEY=VALUE" in stderr


# ------------------------------------------------------------------------------------------------------- wrappers

OTHER = {key: value + 1 for key, value in helpers.compact_tensors().items()}  # weights that must not be chosen
WRAPPERS = {
    "none": lambda state: state,
    **{key: (lambda state, key=key: {key: state, "epoch": 3}) for key in (
        "params_ema", "params", "params-ema", "state_dict", "model_state_dict", "ema_state_dict", "model", "net",
        "netG", "generator", "anything",
    )},
    "averages are preferred": lambda state: {"params": OTHER, "params_ema": state},
    "averages of Lornatang are preferred": lambda state: {"state_dict": OTHER, "ema_state_dict": state, "psnr": 28.0},
    "empty averages": lambda state: {"state_dict": state, "ema_state_dict": {}},
    "a module of its own": lambda state: {"generator": {"module": state}},
    "three unknown levels": lambda state: {"state": {"generator": {"module": _prefixed(state, "model.")}}},
    "two levels": lambda state: {"model": {"state_dict": state}, "config": {"params": {"lr": 1e-4}}},
    "with an optimiser": lambda state: {"optimizer": {"state": {0: {"exp_avg": state["body.0.bias"]}}}, "net": state},
    "with a discriminator": lambda state: {"netD": {"conv0.weight": state["body.0.weight"]}, "netG": state},
    "DataParallel": lambda state: _prefixed(state, "module."),
    "torch.compile": lambda state: _prefixed(state, "_orig_mod."),
    "averaged and compiled": lambda state: {
        "ema_state_dict": _prefixed(state, "module._orig_mod.") | {"n_averaged": np.array(500)}
    },
    "Lightning": lambda state: {"state_dict": _prefixed(state, "model."), "pytorch-lightning_version": "2.1"},
    "Lightning with two players": lambda state: {
        "state_dict": _prefixed(state, "net_g.") | _prefixed(OTHER, "discriminator.")
    },
    "Lightning with averages": lambda state: {
        "state_dict": _prefixed(OTHER, "generator.") | _prefixed(state, "generator_ema.")
    },
    "Lightning around a compiled module": lambda state: {"state_dict": _prefixed(state, "generator._orig_mod.")},
    "two prefixes": lambda state: _prefixed(state, "model.generator."),
}  # fmt: skip


def _prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_and_prefixes_are_removed(tmp_path, wrapper):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (scripts/test.sh --torch)")
    state = helpers.compact_tensors()

    def as_torch(content):
        if isinstance(content, dict):
            return {key: as_torch(value) for key, value in content.items()}
        return torch.from_numpy(content) if isinstance(content, np.ndarray) else content

    torch.save(as_torch(WRAPPERS[wrapper](state)), tmp_path / "a.pth")
    expected = srgan_jax.load(_file(tmp_path, "plain", state))
    found = srgan_jax.load(tmp_path / "a.pth")
    assert found.architecture == expected.architecture
    jax.tree.map(np.testing.assert_array_equal, dict(found.variables), dict(expected.variables))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".pth.tar", ".ckpt", ".bin"])
def test_files_of_any_suffix_are_read(tmp_path, suffix):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (scripts/test.sh --torch)")
    state = {key: torch.from_numpy(value).requires_grad_() for key, value in helpers.compact_tensors().items()}
    torch.save(state, tmp_path / f"a{suffix}", _use_new_zipfile_serialization=suffix != ".pth.tar")
    assert srgan_jax.load(tmp_path / f"a{suffix}").scale == 2


# ------------------------------------------------------------------------------------------------------- refusals


def _zeros(*names):
    return {name: np.zeros((4, 4, 3, 3) if "conv" in name else 4, np.float32) for name in names}


COMPACT_FILE = helpers.compact_tensors()
FOREIGN = {
    "hat": (_zeros("conv_first.weight", "layers.0.residual_group.overlap_attn.qkv.weight"), "HAT or a relative"),
    "omnisr": (_zeros("residual_layer.0.residual_layer.0.layer.0.fn.0.weight", "residual_layer.0.esa.conv1.weight"),
               "OmniSR or a relative"),
    "discriminator": (_zeros("conv0.weight", "conv4.weight_orig", "conv4.weight", "conv9.weight"), "discriminator"),
    "vgg": (_zeros("conv0_0.weight", "bn0_1.weight", "linear1.weight"), "a discriminator (VGG"),
    "clip": (_zeros("text_model.embeddings.token_embedding.weight"), "a text encoder (CLIP)"),
    "diffusion": (_zeros("model.diffusion_model.input_blocks.0.0.weight"), "a latent diffusion model"),
    "unknown": (_zeros("stem.weight", "head.weight"), "it holds 2 tensors, the first are"),
    "half a compact": ({k: value for k, value in COMPACT_FILE.items() if k != "body.2.weight"}, "looks like compact"),
    "gray rrdb": ({f"body.0.rdb1.conv{index}.weight": np.zeros((4, 4, 3, 3), np.float32) for index in range(1, 6)}
                  | {"conv_first.weight": np.zeros((4, 1, 3, 3), np.float32)}, "expected an input of 3 channels"),
    "integers": ({key: (9 * value).astype(np.int8) for key, value in COMPACT_FILE.items()},
                 "expected floats, found int8 in body.0.bias"),
    "a wrong shape": (COMPACT_FILE | {"body.2.weight": np.zeros((4, 5, 3, 3), np.float32)},
                      "1 tensors don't fit the architecture: params/conv_00/kernel: expected (3, 3, 4, 4), found"),
    "lora": (_zeros("lora_unet_mid_block.lora_up.weight"), "it holds a LoRA"),
    "diffusers": (_zeros("down_blocks.0.resnets.0.conv1.weight", "mid_block.attentions.0.norm.weight"),
                  "a U-Net of diffusers"),
    "vae": (_zeros("encoder.down_blocks.0.resnets.0.conv1.weight", "decoder.up_blocks.0.resnets.0.conv1.weight",
                   "quant_conv.weight", "mid_block.norm.weight"), "an autoencoder"),
    "half a discriminator": (_zeros("conv0.weight", "conv4.weight_orig", "conv9.weight"), "a discriminator (unet)"),
    "gray swinir": ({f"layers.0.residual_group.blocks.0.{name}": np.zeros((9, 2), np.float32)
                     for name in ("norm1.weight", "attn.relative_position_bias_table")}
                    | {"patch_embed.norm.weight": np.zeros(4, np.float32),
                       "conv_first.weight": np.zeros((4, 1, 3, 3), np.float32)}, "expected an input of 3 channels"),
    "not finite": (COMPACT_FILE | {"body.0.bias": np.full(4, np.nan, np.float32)}, "aren't finite in body.0.bias"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_that_is_not_a_generator_ends_in_one_line_that_says_what_it_is(tmp_path, name, capsys):
    tensors, message = FOREIGN[name]
    path = _file(tmp_path, "a", tensors)
    with pytest.raises(UserError) as caught:
        srgan_jax.load(path)
    assert str(path) in str(caught.value) and message in str(caught.value)
    for command in (["info", str(path)], ["upscale", "photo.jpg", "--weights", str(path)], ["import", str(path)]):
        assert cli.main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {path} ")


ODD_FILES = {  # -> what is written, and what the message says
    "TorchScript": (lambda torch, path: torch.jit.script(torch.nn.Conv2d(3, 3, 3)).save(path), "a TorchScript archive"),
    "a whole module": (lambda torch, path: torch.save(torch.nn.Conv2d(3, 3, 3), path), "torch.nn.modules.conv.Conv2d"),
    "sparse": (lambda torch, path: torch.save({"w": torch.eye(3).to_sparse()}, path), "_rebuild_sparse_tensor"),
    "quantised": (
        lambda torch, path: torch.save({"w": torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8)}, path),
        "_rebuild_qtensor",
    ),
    "complex": (lambda torch, path: torch.save({"w": torch.eye(3) * 1j}, path), "torch.ComplexFloatStorage"),
    "hyperparameters": (
        lambda torch, path: torch.save({"state_dict": {}, "hyper_parameters": argparse.Namespace(lr=1)}, path),
        "argparse.Namespace",
    ),
    "another zip": (lambda torch, path: zipfile.ZipFile(path, "w").close(), "a zip archive without one data.pkl"),
    "empty": (lambda torch, path: path.write_bytes(b""), "an empty file"),
    "a photo": (lambda torch, path: path.write_bytes(b"\xff\xd8\xff\xe0"), "a file that begins with"),
    "cut short": (lambda torch, path: _cut(torch, path, legacy=False), "damaged"),
    "cut short, older form": (lambda torch, path: _cut(torch, path, legacy=True), "ends before its tensors"),
    "a number": (lambda torch, path: torch.save(3, path), "it holds no state dict of tensors"),
}


def _cut(torch, path, *, legacy):
    state = {key: torch.from_numpy(value) for key, value in helpers.compact_tensors(width=32).items()}
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    path.write_bytes(path.read_bytes()[:-5000])


@pytest.mark.filterwarnings("ignore")  # TorchScript and quantisation are deprecated
@pytest.mark.parametrize("name", ODD_FILES)
def test_other_files_end_in_one_line(tmp_path, name, capsys):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (scripts/test.sh --torch)")
    write, message = ODD_FILES[name]
    write(torch, tmp_path / "a.pth")
    for command in (["info"], ["upscale", "photo.jpg", "--weights"], ["import"]):
        assert cli.main([*command, str(tmp_path / "a.pth")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {tmp_path / 'a.pth'} ") and message in line


OTHERS = {  # architecture -> modules of spandrel that are it
    "HAT": ("HAT",), "OmniSR": ("OmniSR",), "DRCT": ("DRCT",), "ATD": ("ATD",), "CRAFT": ("CRAFT",), "FDAT": ("FDAT",),
    "RGT": ("RGT",), "RCAN": ("RCAN",), "MoSR": ("MoSR",), "MoESR": ("MoESR",), "SeemoRe": ("SeemoRe",),
    "DCTLSA": ("DCTLSA",), "DITN": ("DITN",), "Swift-SRGAN": ("SwiftSRGAN",), "NAFNet": ("NAFNet",),
    "SCUNet": ("SCUNet",), "DRUNet": ("DRUNet",), "FBCNN": ("FBCNN",), "PLKSR": ("PLKSR",),
    "waifu2x's CUNet": ("RealCUGAN", "UpCunet2x"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in ("DRCT", "MoSR") else []) for name in OTHERS]
)
def test_architectures_that_are_not_supported_are_named(name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (scripts/test.sh --torch)")
    kind = getattr(helpers.import_spandrel(f"architectures.{OTHERS[name][0]}"), OTHERS[name][-1])
    try:
        with torch.device("meta"):  # without values
            state = kind().state_dict()
    except RuntimeError:  # it computes values
        state = kind().state_dict()
    tensors = {key: np.broadcast_to(np.float32(0), value.shape) for key, value in state.items()}
    assert importers.detect(tensors)[0] == ""
    assert f"it holds {name} or a relative of it" in recognition.describe_unknown(tensors, tensors)


def test_an_optimiser_and_an_empty_file_are_named(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (scripts/test.sh --torch)")
    network = torch.nn.Conv2d(3, 3, 3)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.zeros(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "a.pth")
    with pytest.raises(UserError, match=f"{ERROR}it holds the state of an optimiser"):
        srgan_jax.load(tmp_path / "a.pth")
    torch.save({"epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=f"{ERROR}it holds no state dict of tensors .keys epoch.; expected torch.save"):
        srgan_jax.load(tmp_path / "a.pth")
    torch.save([1, 2], tmp_path / "a.pth")
    with pytest.raises(UserError, match=f"{ERROR}it holds no state dict of tensors .a list."):
        srgan_jax.load(tmp_path / "a.pth")


def test_no_layout_takes_the_tensors_of_another_network():
    """Each layout detects its own files alone; none raises for networks that are not known."""
    for tensors, message in FOREIGN.values():
        name, _ = importers.detect(tensors)
        assert name == "" or "holds" not in message
    assert all(kind.parts for kind in recognition.KINDS)
    assert [name for name, entry in LAYOUTS.items() if importers._detects(entry, helpers.compact_tensors())] == [
        "compact"
    ]


# -------------------------------------------------------------------------------------------- scale 1 and commands


@pytest.fixture
def cleanup(tmp_path):
    """An SRVGGNetCompact of scale 1, as a file of another program, and the photo in a folder."""
    return _file(tmp_path, "cleanup", helpers.compact_tensors(scale=1))


def test_a_generator_of_scale_1_upscales_tiles_and_exports(tmp_path, cleanup, photo, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    srgan_jax.write_image("in/photo.png", photo[:40, :50])
    params = srgan_jax.load(cleanup)
    expected = np.asarray(srgan_jax.upscale(params, photo[:40, :50])).astype(int)
    assert cli.main(["upscale", "in/photo.png", "--weights", str(cleanup), "--tile", "32"]) == 0
    written = srgan_jax.read_image("in/photo_x1.png").frames[0].astype(int)
    assert np.abs(written - expected).max() <= 1
    (tmp_path / "in/photo_x1.png").unlink()
    assert cli.main(["evaluate", "--weights", str(cleanup), "--data", "in", "--metrics", "psnr_y"]) == 0
    assert "in   cleanup " in capsys.readouterr().out
    assert cli.main(["export", str(cleanup), "--to", "stablehlo", "-o", "c.zip"]) == 0
    assert cli.main(["info", str(cleanup)]) == 0
    assert "licence: not stated" in capsys.readouterr().out


def test_several_weights_are_applied_one_after_another(tmp_path, cleanup, photo, monkeypatch):
    monkeypatch.chdir(tmp_path)
    second = _file(tmp_path, "second", helpers.compact_tensors(scale=2, seed=1))
    gray_and_alpha = np.concatenate([photo[:40, :50, :1], photo[40:80, :50, :1]], axis=-1)
    for name, image in {
        "rgb": photo[:40, :50],
        "deep": photo[:40, :50].astype(np.uint16) * 200,
        "la": gray_and_alpha,
    }.items():
        srgan_jax.write_image(f"{name}.png", image)
        assert cli.main(["upscale", "--weights", str(cleanup), str(second), f"{name}.png", "--tile", "32"]) == 0
        written = srgan_jax.read_image(f"{name}_x2.png").frames[0]
        assert written.shape == (80, 100, image.shape[-1]) and written.dtype == image.dtype
    largest = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}
    for name in ("rgb", "deep"):
        lr = srgan_jax.read_image(f"{name}.png").frames[0]
        sr = srgan_jax.upscale(srgan_jax.load(cleanup), lr / np.float32(largest[lr.dtype]))
        sr = np.asarray(srgan_jax.upscale(srgan_jax.load(second), sr))
        written = srgan_jax.read_image(f"{name}_x2.png").frames[0] / largest[lr.dtype]
        np.testing.assert_allclose(written, sr, atol=0.6 / 255)


def test_import_records_where_the_weights_are_from(tmp_path, capsys):
    path = tmp_path / "theirs.safetensors"
    metadata = {"modelspec.author": "A. Author", "modelspec.license": "CC-BY-4.0"}
    save_file(helpers.compact_tensors(), path, metadata)
    out = tmp_path / "ours.safetensors"
    assert cli.main(["import", str(path), "-o", str(out)]) == 0
    header = srgan_jax.read_header(out)
    assert header["author"] == "A. Author" and header["licence"] == "CC-BY-4.0"
    assert header["file"] == "theirs.safetensors" and header["source"] == "compact"
    assert header["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert json.loads(header["architecture"])["name"] == "srvggnet_compact"
    assert header == srgan_jax.read_header(path)
    # 3x3 convolutions 3-4-4-4-12 with bias, three vectors of slopes.
    count = (9 * 3 + 1) * 4 + 2 * (9 * 4 + 1) * 4 + (9 * 4 + 1) * 12 + 3 * 4
    assert (
        f"srvggnet_compact, 2 blocks of 4 channels, x2, {count} parameters; detected as compact"
        in capsys.readouterr().out
    )
    assert cli.main(["import", str(path), "-o", str(out), "--overwrite", "--licence", "MIT"]) == 0
    assert srgan_jax.read_header(out)["licence"] == "MIT"
    assert cli.main(["import", str(out)]) == 2
    assert "is a file of srgan_jax already" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [["info"], ["export", "--to", "stablehlo", "-o", "c.zip"], ["evaluate", "--data", "in", "--weights"]],
    ids=lambda command: command[0],
)
def test_a_command_reads_the_tensors_of_a_file_once(tmp_path, cleanup, photo, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    srgan_jax.write_image("in/photo.png", photo[:24, :24])
    read, times = importers.read_content, []
    monkeypatch.setattr(importers, "read_content", lambda path: times.append(path) or read(path))
    assert cli.main([*command, str(cleanup)]) == 0
    assert times == [str(cleanup)]


def test_import_lists_what_is_known(capsys):
    assert cli.main(["import", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed and entry.about in listed for name, entry in LAYOUTS.items())
    assert cli.main(["import"]) == 2
    assert "expected a file" in capsys.readouterr().err


def test_tiles_of_a_generator_with_unshuffled_input_equal_the_whole():
    """LR is divided into blocks of 4 x 4 pixels: tiles start at multiples of 4, also in images of other sizes."""
    params = helpers.random_weights(name="rrdb", blocks=1, width=4, growth=4, unshuffle=4, scale=1)
    halo, exact = inference.halo_px(params.architecture)
    assert (exact, inference.period_px(params.architecture)) == (False, 4) and halo == 64
    image = np.random.default_rng(0).random((150, 171, 3), np.float32)
    whole = np.asarray(srgan_jax.upscale(params, image))
    tiled = srgan_jax.upscale_tiled(params, image, tile_px=(144, 148))
    np.testing.assert_allclose(tiled, whole, atol=1e-3)
    small = np.asarray(srgan_jax.upscale(params, image[:10, :7]))
    canvas = inference.upscale_canvas(params, np.pad(image[:10, :7], ((0, 6), (0, 9), (0, 0)), mode="edge"), (10, 7))
    np.testing.assert_allclose(canvas[:10, :7], small, atol=1e-5)


@pytest.mark.parametrize("period", [2, 4, 8, 16])
@pytest.mark.parametrize("halo", [0, 3, 20])
def test_tiles_start_at_multiples_of_the_period(period, halo):
    for tile in (2 * halo + period, inference.smallest_tile(halo, period), 97):
        for size in (1, tile, tile + 1, 301):
            spans = inference.spans(size, tile, halo, period)
            assert all(span.start % period == 0 and span.stop - span.start <= tile for span in spans)
            assert spans[0].keep_start == 0 and spans[-1].keep_stop == size
            for left, right in itertools.pairwise(spans):
                assert left.keep_stop == right.keep_start
                assert left.keep_stop <= left.stop - halo and right.keep_start >= right.start + halo
