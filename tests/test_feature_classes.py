"""Data sets that name Python code are refused before tfds reads them; a set is replaced when the new one is whole."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from srgan_jax import cli
from srgan_jax.data import builder, datasets
from srgan_jax.data.feature_classes import check_features

EVIL = "evil_features.Evil"


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A module in the current folder, which is on the path as for `python -m`; importing it writes a file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    ran = tmp_path / "it_ran"
    (tmp_path / "evil_features.py").write_text(f"import pathlib\npathlib.Path({str(ran)!r}).touch()\n")
    yield ran
    sys.modules.pop("evil_features", None)


def _features(dataset, folder):
    """Copies a data set; returns its features.json and its content."""
    shutil.copytree(dataset, folder)
    (file,) = Path(folder).rglob("features.json")
    return file, json.loads(file.read_text())


def _top(content):
    content["pythonClassName"] = EVIL


def _inner(content):
    content["featuresDict"]["features"]["image"]["pythonClassName"] = EVIL


def _other_spelling(content):
    content["featuresDict"]["features"]["image"]["python_class_name"] = EVIL
    del content["featuresDict"]["features"]["image"]["pythonClassName"]


def _legacy(content):
    image = {"type": EVIL, "content": {}}
    dictionary = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
    content |= {"type": dictionary, "content": {"image": image}}


def _string(content):
    dictionary = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
    inner = json.dumps({"features": {"image": {"pythonClassName": EVIL}}})
    content |= {"type": dictionary, "proto_cls": "tensorflow_datasets.FeaturesDict", "content": inner}


def _module_of_tfds(content):
    content["featuresDict"]["features"]["image"]["pythonClassName"] = "tensorflow_datasets.scripts.cli.main.X"


CHANGES = [_top, _inner, _other_spelling, _legacy, _string, _module_of_tfds]


@pytest.mark.parametrize("change", CHANGES)
def test_code_named_by_a_data_set_is_not_imported(tmp_path, dataset, planted, change):
    file, content = _features(dataset, tmp_path / "set")
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(builder.DatasetError, match="names Python code .* config.data.trust_builder=True"):
        datasets.open_images(str(tmp_path / "set"), scale=4)
    assert not planted.exists() and "evil_features" not in sys.modules


def test_the_attack_works_without_the_check(tmp_path, dataset, planted):
    """So that the tests above show something: `trust_builder` imports the module."""
    file, content = _features(dataset, tmp_path / "set")
    _inner(content)
    file.write_text(json.dumps(content))
    with pytest.raises(builder.DatasetError, match="damaged data set"):  # the module has no such class
        builder.open_source(str(tmp_path / "set"), trust_builder=True)
    assert planted.exists()


def test_code_named_by_a_prepared_catalogue_set_is_not_imported(tmp_path, dataset, planted):
    file, content = _features(dataset, tmp_path / "tfds" / "celeb_a")
    _inner(content)
    file.write_text(json.dumps(content))
    with pytest.raises(builder.DatasetError, match="names Python code"):
        builder.open_source("celeb_a", data_dir=str(tmp_path / "tfds"))
    assert cli.main(["prepare", "celeb_a", "--data-dir", str(tmp_path / "tfds")]) == 2
    assert not planted.exists()


def test_the_module_of_a_builder_is_not_imported(tmp_path, dataset, planted):
    """dataset_info.json names the module of the builder; tfds only records it."""
    shutil.copytree(dataset, tmp_path / "set")
    (file,) = (tmp_path / "set").rglob("dataset_info.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"moduleName": "evil_features"}))
    assert len(builder.open_source(str(tmp_path / "set"))) and not planted.exists()


def test_features_of_tfds_are_accepted(tmp_path):
    nested = tfds.features.FeaturesDict({
        "image": tfds.features.Image(), "type": tfds.features.Text(),
        "objects": tfds.features.Sequence({"bbox": tfds.features.BBoxFeature(), "name": tfds.features.Text()}),
        "number": tfds.features.Scalar(np.int32),
    })  # fmt: skip
    (tmp_path / "features.json").write_text(json.dumps(nested.to_json()))
    check_features(tmp_path)


@pytest.mark.parametrize("name", ["features.json", "dataset_info.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "\0", '{"name": 3}', '{"splits": [{}]}'])
def test_damaged_files_are_reported_in_a_line(tmp_path, dataset, name, text):
    shutil.copytree(dataset, tmp_path / "set")
    (file,) = (tmp_path / "set").rglob(name)
    file.write_text(text)
    with pytest.raises(builder.DatasetError, match=r"damaged|has no split|no split"):
        builder.open_source(str(tmp_path / "set"))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError("any")])
def test_the_old_set_stays_until_the_new_one_is_whole(tmp_path, dataset, photo_folder, monkeypatch, error):
    shutil.copytree(dataset, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}

    def fail(self, *args, **kwargs):
        list(Path(self.data_dir).parents[1].rglob("*"))
        (Path(self.data_dir).parent / "partial").mkdir(parents=True)
        raise error

    monkeypatch.setattr(builder.PhotoFolder, "download_and_prepare", fail)
    for out in ("out", "deep/new"):
        with pytest.raises((OSError, KeyboardInterrupt, RuntimeError, builder.DatasetError)):
            builder.prepare(str(photo_folder), str(tmp_path / out), min_side_px=32)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_preparation_left_is_ignored_and_deleted(tmp_path, dataset, photo_folder):
    out = tmp_path / "out"
    shutil.copytree(dataset, out)
    left = out / ".preparing-0123456789abcdef"
    shutil.copytree(out / "photo_folder", left / "photo_folder")
    assert len(builder.open_source(str(out))) == 6
    builder.prepare(str(photo_folder), str(out), min_side_px=32)
    assert not left.exists() and len(builder.open_source(str(out))) == 6
    assert sorted(path.name for path in out.iterdir()) == ["converted.json", "photo_folder", "skipped.json"]
