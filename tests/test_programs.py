"""Programs that are kept on the disk: `runtime.programs`."""

import os

import jax
import numpy as np
import pytest

from srgan_jax.runtime import disk_cache, programs

X = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)


def counted():
    """Returns a jitted function of its own, and the list that gets an entry each time that it is traced."""
    traces = []

    def smooth(tree, factor):
        traces.append(1)
        return {"sum": (tree["x"] * factor).sum(), "sin": jax.numpy.sin(tree["x"])}["sin"]

    return jax.jit(smooth), traces


def call(x=X):
    """Returns the result of a new `KeptProgram`, as a new process would, and how many times it traced."""
    function, traces = counted()
    kept = programs.KeptProgram(function, lambda *_: True)
    for _ in range(2):
        result = np.asarray(kept({"x": x}, np.float32(2)))
    return result, len(traces)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_cache, "folder", tmp_path)
    return tmp_path / programs.SUB_FOLDER


def test_second_process_traces_nothing_and_gives_the_same_bits(folder):
    first, traces = call()
    second, traces_again = call()
    assert (traces, traces_again) == (1, 0)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, np.sin(X), rtol=1e-6)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_other_shapes_have_another_program(folder):
    call()
    result, traces = call(X[:2])
    assert (result.shape, traces) == ((2, 4), 1)
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("damage", ["truncated", "changed", "empty", "digest of garbage"])
def test_damaged_program_is_compiled_again(folder, damage):
    import hashlib

    call()
    (path,) = folder.iterdir()
    content = path.read_bytes()
    path.write_bytes(
        {
            "truncated": content[:-100],
            "changed": content[:-100] + bytes(100),
            "empty": b"",
            "digest of garbage": hashlib.sha256(b"garbage").digest() + b"garbage",
        }[damage]
    )
    result, traces = call()
    assert traces == 1
    np.testing.assert_allclose(result, np.sin(X), rtol=1e-6)
    assert call()[1] == 0  # it was written again


@pytest.mark.skipif(os.name != "posix", reason="modes of folders are those of POSIX")
def test_folder_that_others_may_write_is_not_used(folder):
    call()
    folder.chmod(0o770)
    assert call()[1] == 1  # it traces, although the file is there
    folder.chmod(0o700)
    assert call()[1] == 0


def test_network_of_the_user_is_not_kept(folder):
    function, traces = counted()
    kept = programs.KeptProgram(function, lambda *_: False)
    np.testing.assert_allclose(kept({"x": X}, np.float32(2)), np.sin(X), rtol=1e-6)
    assert len(traces) == 1
    assert not folder.exists()
