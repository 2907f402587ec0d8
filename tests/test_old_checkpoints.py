"""A checkpoint that can't be deleted, on a read-only or broken disk, never costs a new one."""

import shutil

import numpy as np
import pytest

from srgan_jax.training import checkpoints, checksums


def _steps(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


@pytest.mark.parametrize("error", [PermissionError(1, "Operation not permitted"), OSError(30, "Read-only file system")])
def test_a_failing_deletion_costs_no_new_checkpoint(tmp_path, monkeypatch, error):
    """Checkpoint 2 can't be deleted; the others are kept and deleted as usual, and it is reported once."""
    rmtree, reported = shutil.rmtree, []

    def fail(path, *args, **kwargs):
        if str(path).endswith("/2"):
            raise error
        return rmtree(path, *args, **kwargs)

    monkeypatch.setattr(shutil, "rmtree", fail)
    for steps in (range(2, 9, 2), range(10, 17, 2)):  # resumed in between
        saver = checkpoints.Checkpoints(tmp_path / "stage", keep=2, report=reported.append)
        saver.restore({"x": np.zeros(2)})
        for step in steps:
            saver.save(step, {"x": np.full(2, float(step))})
        saver.close()
        assert saver.saved == steps[-1]
        assert _steps(tmp_path / "stage") == [2, steps[-2], steps[-1]]
    assert all(not checksums.verify(tmp_path / "stage" / str(step)) for step in (14, 16))
    (line,) = set(reported)
    assert "old checkpoint" in line and f"stage/2 can't be deleted ({error.strerror})" in line
    assert len(reported) == 2  # once in each run


def test_links_to_other_folders_are_no_checkpoints(tmp_path):
    for name, step in (("other", 9), ("stage", 3)):
        saver = checkpoints.Checkpoints(tmp_path / name)
        saver.save(step, {"x": np.full(2, float(step))})
        saver.close()
    (tmp_path / "stage" / "9").symlink_to(tmp_path / "other" / "9")
    (tmp_path / "stage" / "²").mkdir()
    restored = checkpoints.Checkpoints(tmp_path / "stage").restore({"x": np.zeros(2)})
    np.testing.assert_array_equal(restored["x"], [3, 3])
