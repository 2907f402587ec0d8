import ast
import json
import os
import re
from pathlib import Path

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open

import srgan_jax
from srgan_jax import models, weights
from srgan_jax.weights import importers, safetensors_io

LR = jnp.zeros((1, 8, 8, 3))
ARCHITECTURES = [
    {"blocks": 2, "width": 8},
    {"blocks": 1, "width": 8, "scale": 2, "activation": "prelu_shared"},
    {"blocks": 1, "width": 4, "scale": 3, "activation": "relu", "bias_before_norm": True},
    {"blocks": 1, "width": 4, "scale": 8, "norm": "none"},
]


def _variables(**fields):
    return helpers.random_variables(models.build(models.GENERATORS, {"name": "srresnet", **fields}), LR)


@pytest.mark.parametrize(
    "fields", [*ARCHITECTURES, {"blocks": 1, "width": 4, "base": "bicubic", "output": "tanh"}], ids=str
)
def test_a_file_keeps_weights_architecture_and_provenance(tmp_path, fields):
    made = srgan_jax.make_weights(_variables(**fields), {"name": "srresnet", **fields})
    path = tmp_path / "generator.safetensors"
    srgan_jax.save(path, made, {"licence": "CC0"})
    loaded = srgan_jax.load(path, fold=False)
    assert loaded.architecture == made.architecture and hash(loaded.architecture) == hash(made.architecture)
    jax.tree.map(np.testing.assert_array_equal, dict(loaded.variables), dict(made.variables))
    header = srgan_jax.read_header(path)
    assert header["licence"] == "CC0" and json.loads(header["architecture"])["blocks"] == fields["blocks"]
    assert jax.tree.structure(srgan_jax.load(tmp_path, fold=False)) == jax.tree.structure(loaded)  # a run's folder


def test_the_same_content_gives_the_same_bytes(tmp_path):
    """Also with many keys and characters beyond ASCII in the header; other readers open the file."""
    made, path = srgan_jax.make_weights(_variables(blocks=1, width=4)), tmp_path / "a.safetensors"
    provenance = {f"key {index}": 'é "quoted" \\ \n' for index in range(20)}
    found = set()
    for _ in range(5):
        srgan_jax.save(path, made, provenance)
        found.add(path.read_bytes())
    assert len(found) == 1
    with safe_open(path, framework="numpy") as file:
        assert provenance.items() <= file.metadata().items() and len(file.keys()) == len(jax.tree.leaves(made))


@pytest.mark.parametrize("fields", ARCHITECTURES, ids=str)
def test_sizes_are_read_from_plain_variables(fields):
    made = srgan_jax.make_weights(_variables(**fields))
    assert {key: made.architecture[key] for key in fields} == fields


def test_two_files_of_one_architecture_share_a_compilation(tmp_path):
    first = srgan_jax.make_weights(_variables(blocks=1, width=4))
    second = srgan_jax.make_weights(jax.tree.map(lambda x: x + 1, _variables(blocks=1, width=4)))
    count = 0

    @jax.jit
    def apply(params, lr):
        nonlocal count
        count += 1
        return srgan_jax.upscale(params, lr)

    for number, params in enumerate((first, second)):
        srgan_jax.save(tmp_path / f"{number}.safetensors", params, {"number": str(number)})
        apply(srgan_jax.load(tmp_path / f"{number}.safetensors"), LR)
    assert count == 1


def test_tensors_that_do_not_fit_are_named():
    variables = _variables(blocks=2, width=8)
    with pytest.raises(srgan_jax.WeightsError, match=r"surplus params/block_01_conv_1/kernel \(3, 3, 8, 8\)"):
        srgan_jax.make_weights(variables, {"name": "srresnet", "blocks": 1, "width": 8})
    with pytest.raises(srgan_jax.WeightsError, match=r"act_in/slope: expected \(16,\), found \(8,\)"):
        srgan_jax.make_weights(variables, {"name": "srresnet", "blocks": 2, "width": 16})
    with pytest.raises(srgan_jax.WeightsError, match="not an SRResNet's"):
        srgan_jax.make_weights({"params": {"dense": {"kernel": np.zeros((3, 3))}}})


def test_foreign_files_are_refused(tmp_path, vgg_file):
    with pytest.raises(FileNotFoundError, match="no weights at"):
        srgan_jax.load(tmp_path / "absent.safetensors")
    (tmp_path / "text.safetensors").write_text("not weights")
    with pytest.raises(srgan_jax.WeightsError, match="not a readable .safetensors file"):
        srgan_jax.load(tmp_path / "text.safetensors")
    with pytest.raises(srgan_jax.WeightsError, match="expected .*'srgan_jax generator 1', found 'srgan_jax extr"):
        srgan_jax.load(vgg_file)
    made = srgan_jax.make_weights(_variables(blocks=1, width=4))
    srgan_jax.save(tmp_path / "whole.safetensors", made)
    whole = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-100])
    with pytest.raises(srgan_jax.WeightsError, match="not a readable .safetensors file"):
        srgan_jax.load(tmp_path / "cut.safetensors")


def test_damaged_and_unknown_files_of_other_programs_are_refused(tmp_path):
    (tmp_path / "theirs.pth").write_bytes(b"PK\x03\x04")
    for read in (srgan_jax.load, srgan_jax.read_header):
        with pytest.raises(srgan_jax.WeightsError, match="theirs.pth can't be read safely: .*found damaged"):
            read(tmp_path / "theirs.pth")
    safetensors_io.write_tensors(
        tmp_path / "theirs.safetensors", {"conv1.0.weight": np.zeros(3, np.float32)}, {"format": "pt"}
    )
    with pytest.raises(srgan_jax.WeightsError, match="not a generator that is known: it holds 1 tensors, .*conv1.0"):
        srgan_jax.load(tmp_path / "theirs.safetensors")


def test_extractor_file(vgg_file, tmp_path):
    variables, header = weights.load_extractor("vgg19", vgg_file)
    assert header["convention"] == "caffe" and variables["params"]["block5_conv4"]["kernel"].shape == (3, 3, 512, 512)
    assert variables["params"]["block1_conv1"]["kernel"].dtype == np.float32
    with pytest.raises(FileNotFoundError, match="curl -fLO https.*notop.h5 && srgan-jax port vgg19 vgg19_weights"):
        weights.load_extractor("vgg19", tmp_path / "vgg19.safetensors")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"bias_before_norm": True},
        {"norm_upsampling": True, "bn_epsilon": 0.8, "bn_epsilon_upsampling": 0.1},
        {"trunk": "activation"},
        {"norm": "none"},
        {"shared_blocks": True, "use_bias": False},
        {"upsampling": "nearest", "norm_upsampling": True},
    ],
    ids=str,
)
def test_folding_does_not_change_the_output(tmp_path, fields):
    fields = {"name": "srresnet", "blocks": 2, "width": 8, **fields}
    variables = _variables(**fields)
    srgan_jax.save(tmp_path / "w.safetensors", srgan_jax.make_weights(variables, fields))
    folded, plain = (srgan_jax.load(tmp_path / "w.safetensors", fold=fold) for fold in (True, False))
    assert not any("norm" in name for name in folded.variables["params"]) and "batch_stats" not in folded.variables
    lr = jax.random.uniform(jax.random.key(2), (1, 9, 7, 3))
    ours, theirs = (w.module().apply(w.variables, lr) for w in (folded, plain))
    scale = float(jnp.abs(theirs).max())
    np.testing.assert_allclose(ours / scale, theirs / scale, atol=1e-5)


@pytest.mark.parametrize(
    "fields",
    [{}, {"norm": "none"}, {"name": "compact"}, {"name": "msrresnet"}, {"name": "restoration", "scale": 1}],
    ids=str,
)
def test_new_blocks_do_not_change_the_output(fields):
    """The last layer of every new block is zero-initialised; the others are not, so that it gets gradients."""
    fields = {"name": "srresnet", "blocks": 1, "width": 8, **fields}
    before = helpers.random_weights(**fields)
    after = weights.deepen(before, 3)
    assert after.architecture["blocks"] == 3 and dict(after.architecture) | {"blocks": 1} == before.architecture
    lr = jax.random.uniform(jax.random.key(2), (1, 8, 8, 3))
    np.testing.assert_array_equal(*(w.module().apply(w.variables, lr) for w in (before, after)))
    assert all(jnp.abs(after.variables["params"][f"block_{i:02d}_conv_1"]["kernel"]).max() > 0.01 for i in (1, 2))


@pytest.mark.parametrize(
    ("fields", "blocks", "message"),
    [
        ({"name": "compact", "blocks": 2}, 1, "expected 2 blocks or more, got 1"),
        (
            {"name": "rrdb", "growth": 4, "blocks": 1},
            2,
            "can't be added to this rrdb: its blocks are not residual blocks",
        ),
        (
            {"name": "srresnet", "blocks": 1, "shared_blocks": True},
            2,
            "this srresnet: its blocks are not residual blocks",
        ),
    ],
)
def test_blocks_that_cannot_be_added(fields, blocks, message):
    with pytest.raises(weights.WeightsError, match=message):
        weights.deepen(helpers.random_weights(width=8, **fields), blocks)


@pytest.mark.parametrize("fields", [{"block_order": "activation_norm"}, {"name": "restoration", "scale": 1}], ids=str)
def test_norms_after_activations_are_not_folded(tmp_path, fields):
    """A norm whose output is padded with zeros can't be folded into the convolution after it."""
    fields = {"name": "srresnet", "blocks": 1, "width": 8, **fields}
    variables = _variables(**fields)
    srgan_jax.save(tmp_path / "w.safetensors", srgan_jax.make_weights(variables, fields))
    loaded = srgan_jax.load(tmp_path / "w.safetensors")
    jax.tree.map(np.testing.assert_array_equal, dict(loaded.variables), dict(variables))


def test_unknown_names_list_the_shipped_weights():
    assert srgan_jax.load("compact_x4").architecture["name"] == "compact"
    with pytest.raises(FileNotFoundError, match="small_x3.*compact_x4"):
        srgan_jax.load("small_x3")


def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path):
    made = srgan_jax.make_weights(_variables(blocks=1, width=32))
    srgan_jax.save(tmp_path / "whole.safetensors", made)
    srgan_jax.save(tmp_path / "half.safetensors", made, dtype="float16")
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "whole")]
    os.umask(mask := os.umask(0))
    assert (tmp_path / "half.safetensors").stat().st_mode & 0o777 == 0o666 & ~mask  # as usual: others may read it
    assert sizes[0] < 0.6 * sizes[1]
    for ours, theirs in zip(
        jax.tree.leaves(srgan_jax.load(tmp_path / "half.safetensors", fold=False)), jax.tree.leaves(made), strict=True
    ):
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, np.float32(np.float16(theirs)))
    large = jax.tree.map(lambda leaf: leaf + 7e4, made)  # the largest float16 is 65504
    with pytest.raises(srgan_jax.WeightsError, match="values beyond 65504 don't fit float16: "):
        srgan_jax.save(tmp_path / "half.safetensors", large, dtype="float16")


def test_a_folder_does_not_hide_shipped_weights_of_its_name(tmp_path, monkeypatch, bilinear):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "compact_x4").mkdir()
    assert "purpose" in srgan_jax.read_header("compact_x4")  # the card of what ships
    srgan_jax.save(tmp_path / "compact_x4" / "generator.safetensors", bilinear, {"dataset": "mine"})
    assert srgan_jax.read_header("compact_x4")["dataset"] == "mine"  # a run's folder
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty/generator.safetensors"):
        srgan_jax.load("empty")


def test_weights_have_a_one_line_repr():
    params = srgan_jax.load("compact_x4")
    assert repr(params) == "Weights(compact: blocks=6, width=40, scale=4, channels=3; 191,968 numbers)"


def test_functions_of_weights_can_be_exported():
    params = helpers.random_weights(name="compact", blocks=1, width=4, scale=2)
    lr = np.random.default_rng(0).random((1, 6, 8, 3), np.float32)
    exported = jax.export.export(jax.jit(srgan_jax.upscale))(params, lr)
    again = jax.export.deserialize(exported.serialize())
    np.testing.assert_array_equal(again.call(params, lr), jax.jit(srgan_jax.upscale)(params, lr))


COMPARED = {  # the tables and tests that compare imported generators with PyTorch or with published outputs
    "test_importers.py": "NETWORKS",
    "test_community_files.py": "GOLDEN|RRDB",
    "test_community_architectures.py": r"test_\w+_equals_\w+",
}


def test_every_importer_is_compared_with_pytorch():
    """Also where PyTorch is absent and these tests are skipped: the names of layouts in them are read as text."""
    found = set()
    for file, pattern in COMPARED.items():
        for node in ast.parse(Path(__file__).with_name(file).read_text()).body:
            name = ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else getattr(node, "name", "")
            if re.fullmatch(pattern, name):
                texts = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
                found |= {text.split()[0] for text in texts if text.strip()}
    assert set(importers.IMPORTERS) <= found
