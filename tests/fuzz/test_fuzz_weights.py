"""Fuzzing of weights: safetensors headers and values, the unpickler, and the files of ports."""

import json
import zipfile

import h5py
import harness
import helpers
import numpy as np
import pytest
from harness import Counts, fuzz_file, mutate, tries

from srgan_jax import weights
from srgan_jax.export.torch_pickle import write_pth
from srgan_jax.weights import importers, networks
from srgan_jax.weights.ports import niqe, resnet152v2


def _only_header(content, rng):
    """Damages the JSON of a `.safetensors` and keeps its length field right."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = mutate(content[8:end], rng)
    return len(header).to_bytes(8, "little") + header + content[end:]


def _only_architecture(content, rng):
    """Replaces fields of the architecture by odd values."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    architecture = json.loads(header["__metadata__"]["architecture"])
    values = (0, -1, 1, 2, 3, 10**6, 10**30, 1.5, float("nan"), float("inf"), True, None, "", "x", [], [1], {}, [[1]])
    for _ in range(rng.choice((1, 1, 2))):
        architecture[rng.choice(list(architecture))] = rng.choice(values)
    header["__metadata__"]["architecture"] = json.dumps(architecture)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[end:]


NETWORKS = {
    "srresnet": {"blocks": 1, "width": 4}, "swinir": {"depths": (1,), "heads": (1,), "width": 4, "window": 4},
    "dat": {"depths": (1,), "heads": (2,), "width": 4, "split": (2, 4)},
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("change", "count"), [(mutate, 30), (_only_header, 30), (_only_architecture, 25)])
def test_generators(tmp_path, name, change, count):
    file = tmp_path / f"{name}.safetensors"
    weights.save(file, helpers.random_weights(name=name, **NETWORKS[name]))
    counts = fuzz_file(file, lambda: weights.load(file), tries(count), change=change)
    assert not counts.faults()


@pytest.mark.parametrize("wrapped", [False, True])
def test_checkpoints_of_pytorch(tmp_path, wrapped):
    """The pickle in the archive is damaged, and the archive itself."""
    file, tensors = tmp_path / "a.pth", helpers.compact_tensors()
    write_pth(file, {"params_ema": tensors} if wrapped else tensors)

    def damaged_pickle(content, rng):
        again = tmp_path / "again.zip"
        with zipfile.ZipFile(file.with_suffix(".sound")) as sound, zipfile.ZipFile(again, "w") as target:
            for name in sound.namelist():
                data = sound.read(name)
                target.writestr(name, mutate(data, rng) if name.endswith(".pkl") else data)
        return again.read_bytes()

    file.with_suffix(".sound").write_bytes(file.read_bytes())
    for change, count in ((mutate, 60), (damaged_pickle, 120)):
        counts = fuzz_file(file, lambda: importers.import_network(file), tries(count), change=change)
        assert not counts.faults()


def test_files_to_port(tmp_path):
    h5, npz, out = tmp_path / "a.h5", tmp_path / "a.npz", tmp_path / "out.safetensors"
    with h5py.File(h5, "w") as file:
        for name, shape in resnet152v2.SHAPES.items():
            file[name] = np.ones(shape, np.float32)
    np.savez(npz, **{name: np.ones(shape) for name, shape in niqe.SHAPES.items()})
    for path, port in ((h5, resnet152v2.port), (npz, niqe.port)):
        counts = fuzz_file(path, lambda path=path, port=port: port(path, out), tries(60))
        assert not counts.faults()


def test_extractors(tmp_path):
    file = tmp_path / "vgg19.safetensors"
    networks.save_extractor(file, {"a/kernel": np.ones((3, 3), np.float32)}, {"network": "vgg19"})
    counts = fuzz_file(file, lambda: networks.load_extractor("vgg19", file), tries(50))
    assert not counts.faults()


def test_the_harness_finds_faults(tmp_path, monkeypatch):
    """Exceptions, time and memory are counted; the file is restored."""
    monkeypatch.setattr(harness, "TOTAL", Counts())  # these aren't faults of the package
    file = tmp_path / "a"
    file.write_bytes(bytes(range(64)))

    def fragile():
        if file.read_bytes() != bytes(range(64)):
            raise ZeroDivisionError("at once")

    faults = fuzz_file(file, fragile, 20).faults()
    assert faults and all("ZeroDivisionError: at once" in fault for fault in faults)
    slow = fuzz_file(file, lambda: sum(range(10**6)), 1, seconds=1e-4).faults()
    assert len(slow) == 1 and next(iter(slow)).endswith(" s")
    assert file.read_bytes() == bytes(range(64))
