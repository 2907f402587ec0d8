"""Weights files with absurd headers are refused in a line, before anything is built."""

import json
import time

import helpers
import numpy as np
import pytest

from srgan_jax import weights
from srgan_jax.models import GENERATORS
from srgan_jax.runtime import disk_cache
from srgan_jax.runtime.errors import MissingFileError, UserError
from srgan_jax.weights import limits, safetensors_io, storage

GENERATOR = {"name": "srresnet", "blocks": 1, "width": 4}
SWINIR = {"name": "swinir", "depths": (2,), "heads": (1,), "width": 4, "window": 4}
CASES = [
    ({"blocks": 100_000}, "blocks is 100000, expected 0 to 65536"),
    ({"blocks": 60_000}, "60000 blocks, expected at most 64 for"),
    ({"blocks": -1}, "blocks is -1, expected 0 to"),
    ({"blocks": 2.5}, "blocks is 2.5, expected a value such as 16"),
    ({"blocks": True}, "blocks is True, expected a value such as 16"),
    ({"blocks": [1]}, "blocks is"),
    ({"blocks": {"a": 1}}, "blocks is"),
    ({"scale": 0}, "scale is 0, expected 1 to 16"),
    ({"scale": 10**30}, "scale is 1e.30, expected 1 to 16"),
    ({"width": 0}, "width is 0, expected 1 to"),
    ({"width": 65_536}, "tensors don't fit"),
    ({"bn_epsilon": float("nan")}, "bn_epsilon is nan, expected a finite number"),
    ({"activation": 3}, "activation is 3, expected a value such as 'prelu'"),
    ({"activation": "none such"}, "none such"),
    ({"upsampling_width": 10**9}, "upsampling_width is 1e"),
    ({"name": 5}, "no name"),
    ({"name": "none such"}, "unknown architecture 'none such'"),
    ({"no_such_field": 1}, "no_such_field"),
]
SWINIR_CASES = [
    ({"depths": [10**6]}, "depths is 1e"),
    ({"depths": [1] * 10_000}, "10000 blocks, expected at most"),
    ({"window": 4096}, "window is 4096, expected 0 to 32"),
    ({"window": 0}, "can't be built"),
    ({"heads": [0]}, "can't be built"),
    ({"depths": ["x"]}, "depths is .'x'"),
]


def _file(folder, fields, changes):
    """Writes a sound file whose header describes another architecture."""
    tensors_file, file = folder / "sound.safetensors", folder / "changed.safetensors"
    weights.save(tensors_file, helpers.random_weights(**fields))
    tensors, header = safetensors_io.read_any(tensors_file)
    architecture = json.loads(header["architecture"]) | changes
    safetensors_io.write_tensors(file, tensors, header | {"architecture": json.dumps(architecture)})
    return file


@pytest.mark.parametrize(
    ("fields", "changes", "message"),
    [(GENERATOR, *case) for case in CASES] + [(SWINIR, *case) for case in SWINIR_CASES],
    ids=lambda value: str(value)[:30],
)
def test_an_absurd_architecture_is_refused_within_a_second(tmp_path, fields, changes, message):
    file = _file(tmp_path, fields, changes)
    started = time.process_time()
    with pytest.raises(weights.WeightsError, match=message):
        weights.load(file)
    assert time.process_time() - started < 2  # a second on a quiet machine


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 5000, '"' + "x" * 10])
def test_an_architecture_that_is_no_object_is_refused(tmp_path, text):
    made = helpers.random_weights(**GENERATOR)
    weights.save(tmp_path / "a.safetensors", made)
    tensors, header = safetensors_io.read_any(tmp_path / "a.safetensors")
    safetensors_io.write_tensors(tmp_path / "b.safetensors", tensors, header | {"architecture": text})
    with pytest.raises(weights.WeightsError, match="the architecture in the header|header has no architecture"):
        weights.load(tmp_path / "b.safetensors")


def test_an_architecture_nested_to_any_depth_is_refused(tmp_path, monkeypatch):
    """At some depths JSON can be read, but the key under which the check is kept can't be written."""
    monkeypatch.setattr(disk_cache, "folder", tmp_path)
    for depth in (5, 500, *range(850, 1010), 5000):
        architecture = '{"name": "compact", "x": ' + "[" * depth + "]" * depth + "}"
        with pytest.raises(UserError):
            limits.read_architecture({"architecture": architecture}, GENERATORS, 9)
            weights.make_weights({"params": {}}, json.loads(architecture))


def test_a_negative_variance_is_refused(tmp_path):
    made = helpers.random_weights(**GENERATOR)
    made.variables["batch_stats"]["block_00_norm_1"]["var"][1] = -1e-3
    weights.save(tmp_path / "a.safetensors", made)
    with pytest.raises(weights.WeightsError, match="negative variances in batch_stats/block_00_norm_1/var"):
        weights.load(tmp_path / "a.safetensors")


def test_shared_blocks_may_be_more_than_the_tensors(tmp_path):
    made = helpers.random_weights(**GENERATOR | {"blocks": 30, "shared_blocks": True})
    weights.save(tmp_path / "a.safetensors", made)
    assert weights.load(tmp_path / "a.safetensors", fold=False).architecture["blocks"] == 30


@pytest.mark.parametrize("read", [weights.load, safetensors_io.read_any, safetensors_io.read_metadata])
def test_a_large_header_is_refused_before_it_is_read(tmp_path, read):
    """The header is announced as 1 GB, in a sparse file of that size."""
    file = tmp_path / "a.safetensors"
    with open(file, "wb") as stream:
        stream.write((10**9).to_bytes(8, "little") + b'{"a')
        stream.truncate(10**9 + 100)
    with pytest.raises(weights.WeightsError, match="expected a header of at most 4194304 bytes, found 1000000000"):
        read(file)


@pytest.mark.parametrize(
    ("dtype", "item", "message"),
    [
        ("F8_E4M3", 1, "expected tensors of float32, float64, float16 or bfloat16"),
        ("I64", 8, "'x/y' holds int64, expected float32"),
        ("BOOL", 1, "'x/y' holds bool, expected float32"),
        ("C64", 8, "'x/y' holds complex64, expected float32"),
        ("BF16", 2, "values that aren't finite in x/y"),
    ],
)
def test_other_numbers_than_finite_floats_are_refused(tmp_path, dtype, item, message):
    file, text = tmp_path / "a.safetensors", json.dumps(
        {"__metadata__": {"format": safetensors_io.FORMAT, "architecture": "{}"},
         "x/y": {"dtype": dtype, "shape": [4], "data_offsets": [0, 4 * item]}}
    ).encode()  # fmt: skip
    content = b"\x80\x7f" * 4 if dtype == "BF16" else bytes(4 * item)  # of bfloat16: infinity
    file.write_bytes(len(text).to_bytes(8, "little") + text + content)
    with pytest.raises(weights.WeightsError, match=message):
        weights.load(file)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("params/a", "params/a/kernel"), "'params/a' and 'params/a/kernel' are both names of tensors"),
        (("/".join("a" * 3000),), "has 3000 parts, expected at most 16"),
        (("",), "the name '' is no path of a leaf"),
        (("params",), "the name 'params' is no path of a leaf"),
        (("params//kernel",), "the name 'params//kernel' is no path of a leaf"),
    ],
)
def test_names_that_are_not_the_paths_of_a_tree_are_refused(tmp_path, names, message):
    header = {"format": safetensors_io.FORMAT, "architecture": '{"name": "compact", "blocks": 0, "width": 1}'}
    safetensors_io.write_tensors(tmp_path / "a.safetensors", dict.fromkeys(names, np.ones(1, np.float32)), header)
    with pytest.raises(safetensors_io.WeightsError, match=message):
        weights.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("partner", ["../outside.safetensors", "/etc/passwd", "hf://a/b", "gs://a/b", "..", ""])
def test_a_header_names_no_partner_outside_its_folder(tmp_path, bilinear, partner):
    weights.save(tmp_path / "outside.safetensors", bilinear)
    weights.save(tmp_path / "run" / "gan.safetensors", bilinear, {"partner": partner})
    with pytest.raises(weights.WeightsError, match="expected the name of a file beside it, or of shipped weights"):
        storage.load_blended(tmp_path / "run" / "gan.safetensors", 0.5)


def test_a_partner_is_not_looked_for_in_the_current_folder(tmp_path, bilinear, monkeypatch):
    weights.save(tmp_path / "psnr.safetensors", bilinear)
    weights.save(tmp_path / "run" / "gan.safetensors", bilinear, {"partner": "psnr.safetensors"})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingFileError, match="no weights at .*run/psnr.safetensors"):
        storage.load_blended(tmp_path / "run" / "gan.safetensors", 0.5)
