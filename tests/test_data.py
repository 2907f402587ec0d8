import io
import json
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import requests
import toys
from PIL import Image

from srgan_jax import images
from srgan_jax.data import builder, datasets, memory, sampling, skip_corrupt, stream

GEOMETRY = {"crop_px": 32, "margin_px": 8}
SEED = np.asarray(jax.random.key_data(jax.random.key(1)))


def test_a_folder_comes_back_pixel_by_pixel(dataset, photo_folder):
    pictures = builder.open_source(dataset)
    found = sorted((pictures[i].tobytes(), pictures[i].shape) for i in range(len(pictures)))
    expected = [images.read_rgb(path) for path in images.find_images(photo_folder)]
    assert found == sorted((image.tobytes(), image.shape) for image in expected) and len(found) == 6
    assert [pictures.size(i) for i in range(6)] == [pictures[i].shape[:2] for i in range(6)]


def test_every_file_is_used_or_listed(tmp_path, photo):
    folder = tmp_path / "mixed"
    (folder / "deep" / "er").mkdir(parents=True)
    picture = Image.fromarray(photo[:100, :120])
    for suffix in ("png", "jpg", "webp", "bmp", "tif", "gif", "ppm"):
        picture.save(folder / "deep" / f"good.{suffix}")
    picture.convert("L").save(folder / "deep" / "er" / "gray.PNG")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.full((99, 99), 40000, np.uint16)).save(folder / "deep16.png")
    moving = Image.fromarray(photo[:98, :98])
    moving.save(folder / "animated.webp", save_all=True, append_images=[picture.crop((2, 2, 100, 100))], lossless=True)
    Image.fromarray(photo[:20, :300]).save(folder / "tiny.png")
    (folder / "text.png").write_text("not a picture")
    (folder / "empty.jpg").write_bytes(b"")
    whole = (folder / "deep" / "good.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("not looked at")
    out = tmp_path / "out"
    skipped = builder.prepare(str(folder), str(out), min_side_px=96)
    assert set(skipped) == {"tiny.png", "text.png", "empty.jpg", "truncated.jpg"}
    assert skipped["tiny.png"] == "300 x 20 px, smaller than 96 px"
    assert skipped["text.png"] == "not an image in a known format"
    assert "truncated" in skipped["truncated.jpg"]
    assert json.loads((out / "skipped.json").read_text()) == skipped
    assert builder.read_converted(str(out)) == {
        "deep/good.gif": "palette", "deep/er/gray.PNG": "gray", "cmyk.jpg": "CMYK", "deep16.png": "16 bits, gray",
        "animated.webp": "alpha, first of 2 frames",
    }  # fmt: skip
    pictures = builder.open_source(str(out))
    assert len(pictures) == 11
    named = {pictures.name(index).split(" (number")[0]: pictures[index] for index in range(11)}
    assert set(named["deep16.png"].ravel()) == {156}  # 40000 / 257 = 155.6
    np.testing.assert_array_equal(named["animated.webp"], photo[:98, :98])  # the first frame
    # Preparing again replaces the data set.
    (folder / "deep" / "good.bmp").unlink()
    builder.prepare(str(folder), str(out), min_side_px=96)
    assert len(builder.open_source(str(out))) == 10


def test_nothing_usable_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        builder.prepare(str(tmp_path / "absent"), str(tmp_path / "out"))
    with pytest.raises(builder.DatasetError, match="holds no picture"):
        builder.prepare(str(tmp_path), str(tmp_path / "out"))
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(builder.DatasetError, match=r"no usable .*\n  text.png: "):
        builder.prepare(str(tmp_path), str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("celeb_a", "not on this machine; run: srgan-jax prepare celeb_a"),
        ("div2k/bicubic_x4", "not on this machine; run: srgan-jax prepare div2k/bicubic_x4"),
        ("no_such_set", "neither a prepared folder nor a name in the tfds catalogue"),
        ("data/no_such_folder", "run: srgan-jax prepare YOUR_PHOTOS --out data/no_such_folder"),
    ],
)
def test_absent_data_sets_say_so_at_once(tmp_path, name, message):
    began = time.time()
    with pytest.raises(builder.DatasetError, match=message):
        builder.open_source(name, data_dir=str(tmp_path))
    assert time.time() - began < 5  # offline, tfds itself retries for minutes


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("div2k", None, "div2k can't be downloaded, http.* can't be reached; later, or download the pictures and"),
        ("div2k", 404, "div2k can't be downloaded: .*404.*; or download the pictures and prepare their folder"),
        ("celeb_a", 404, "code for celeb_a needs bs4, which .*: pip install bs4, .*; or download the pictures and"),
    ],
)
def test_a_failed_download_says_what_else_can_be_done(tmp_path, monkeypatch, name, status, message):
    def send(session, request, **options):
        if status is None:
            raise requests.ConnectionError("no network", request=request)
        answer = requests.Response()
        answer.status_code, answer.url, answer.raw = status, request.url, io.BytesIO()
        return answer

    monkeypatch.setattr(requests.Session, "send", send)
    monkeypatch.setitem(sys.modules, "bs4", None)  # not installed
    with pytest.raises(builder.DatasetError, match=message):
        builder.prepare_named(name, data_dir=str(tmp_path))


def test_unprepared_folder_names_the_command(photo_folder, dataset):
    with pytest.raises(builder.DatasetError, match=f"run: srgan-jax prepare {photo_folder} --out data/NAME"):
        builder.open_source(str(photo_folder))
    with pytest.raises(builder.DatasetError, match="no split 'test'; it has: train"):
        builder.open_source(dataset, split="test")
    with pytest.raises(builder.DatasetError, match=r"feature='hr': expected .*\['image'\]"):
        builder.open_source(dataset, feature="hr")


def test_store_holds_every_crop_with_its_margins(dataset):
    pictures = builder.open_source(dataset)
    sizes = datasets.without_small(pictures, 32)[1]
    for tile_px in (64, 100, 512):
        store = memory.build_store(pictures, sizes, tile_px=tile_px, **GEOMETRY)
        assert store["tiles"].nbytes == memory.store_bytes(sizes, tile_px=tile_px, **GEOMETRY)
        for step in range(6):
            windows, expected = _both(pictures, store, step, np.arange(16, dtype=np.int32))
            np.testing.assert_array_equal(windows, expected)


def _both(pictures, store, step, indices):
    chosen = sampling.choose_pictures(SEED, np.int32(step), indices, 16, len(pictures))
    keys = sampling.sample_keys(SEED, np.int32(step), indices)
    gathered = memory.gather_windows(store, chosen, keys, **GEOMETRY)
    return gathered, stream.read_windows(pictures, SEED, step, indices, batch_size=16, **GEOMETRY)


def test_windows_are_parts_of_their_pictures(dataset):
    """Independent of the code that cuts: each window is found in a picture whose border is repeated."""
    pictures = builder.open_source(dataset)
    indices = np.arange(16, dtype=np.int32)
    windows = stream.read_windows(pictures, SEED, 0, indices, batch_size=16, **GEOMETRY)
    padded = [np.pad(pictures[i], ((8, 8), (8, 8), (0, 0)), mode="edge") for i in range(len(pictures))]
    for window in windows:
        views = (np.lib.stride_tricks.sliding_window_view(p, (48, 48, 3)) for p in padded)
        assert any((view[:, :, 0] == window).all(axis=(2, 3, 4)).any() for view in views)


def test_stream_is_random_access(dataset):
    pictures = builder.open_source(dataset)
    options = {"batch_size": 4, "threads": 2, **GEOMETRY}
    indices = np.arange(4, dtype=np.int32)
    whole = list(stream.stream_windows(pictures, SEED, range(0, 6), indices, **options))
    later = list(stream.stream_windows(pictures, SEED, range(4, 6), indices, **options))
    assert len(whole) == 6
    np.testing.assert_array_equal(whole[4:], later)
    halves = [
        np.stack(list(stream.stream_windows(pictures, SEED, range(0, 6), part, **options)))
        for part in (indices[:2], indices[2:])
    ]
    np.testing.assert_array_equal(np.concatenate(halves, axis=1), whole)  # two processes read what one reads


def test_pictures_smaller_than_the_crop_are_left_out_and_told(dataset):
    pictures = builder.open_source(dataset)
    kept, sizes, told = datasets.without_small(pictures, 90)
    assert len(kept) == len(sizes) == 5 and sizes.min() >= 90
    assert [kept[i].shape[:2] for i in range(5)] == [tuple(size) for size in sizes.tolist()]
    assert len(told) == 1 and told[0].startswith("1 of 6 pictures, smaller than config.data.crop_px=90: number ")
    assert told[0].endswith("(64 x 64)")
    with pytest.raises(builder.DatasetError, match="6 of 6 .*config.data.crop_px"):
        datasets.without_small(pictures, 1000)


def test_stream_refuses_pictures_smaller_than_the_crop(dataset):
    pictures = builder.open_source(dataset)
    with pytest.raises(builder.DatasetError, match=r"\[64, 64\] .*config.data.crop_px=90"):
        indices = np.arange(6, dtype=np.int32)  # an epoch: every picture once
        stream.read_windows(pictures, SEED, 0, indices, batch_size=6, crop_px=90, margin_px=8)


def test_several_data_sets_in_a_folder_are_named(tmp_path, photo_folder):
    for name in ("one", "two"):
        builder.prepare(str(photo_folder), str(tmp_path / name), min_side_px=32)
    with pytest.raises(builder.DatasetError, match="2 data sets.*config.data.dataset.*one"):
        builder.open_source(str(tmp_path))


def test_data_set_is_a_tfds_data_set(dataset):
    import tensorflow_datasets as tfds

    folder = next(Path(dataset).glob("**/dataset_info.json")).parent
    source = tfds.builder_from_directory(folder).as_data_source("train")
    assert len(source) == 6 and source[0]["image"].dtype == np.uint8 and source[0]["path"]


class _Spoilt:
    """A data set of which some pictures can't be decoded (though their headers are whole), or not even be read."""

    def __init__(self, pictures, undecodable=(), unreadable=()):
        self._pictures, self._undecodable, self._unreadable = pictures, undecodable, unreadable
        self.name = pictures.name

    def __len__(self):
        return len(self._pictures)

    def _read(self, index):
        if index in self._unreadable:
            raise RuntimeError("corrupted chunk\nof array_record")

    def __getitem__(self, index):
        self._read(index)
        if index in self._undecodable:
            raise images.ImageError("image file is truncated")
        return self._pictures[index]

    def size(self, index):
        self._read(index)
        return self._pictures.size(index)


def test_damaged_records_are_replaced_by_the_next(dataset):
    pictures, said = builder.open_source(dataset), []
    mended = skip_corrupt.SoundImages(_Spoilt(pictures, undecodable=(1, 5), unreadable=(2,)), said.append)
    for index, expected in enumerate([0, 3, 3, 3, 4, 0]):
        np.testing.assert_array_equal(mended[index], pictures[expected])
        assert mended.size(index) == pictures.size(expected)
    assert mended.damaged == {1: "image file is truncated", 2: "corrupted chunk", 5: "image file is truncated"}
    assert len(said) == 3 and said[0].startswith(f"WARNING: picture {pictures.name(1)} can't be used (image file is")
    assert pictures.name(1).startswith("part") and "3 of 6 so far" in said[2]
    with pytest.raises(builder.DatasetError, match="none of the 6 .*image file"):
        skip_corrupt.SoundImages(_Spoilt(pictures, undecodable=range(6)), said.append)[4]
    small = skip_corrupt.SoundImages(pictures, said.append, min_side_px=90)
    assert min(min(small[index].shape[:2]) for index in range(6)) >= 90 and list(small.damaged.values()) == [
        "64 x 64 px, smaller than config.data.crop_px=90"
    ]


@pytest.mark.parametrize("share", [0.5, 0.0], ids=["tiles", "host"])
def test_both_sources_replace_alike(dataset, monkeypatch, tiny, share, capsys):
    """Training sees the same samples from tiles, host memory and stream, and hears of each damaged picture once."""
    from srgan_jax import defaults
    from srgan_jax.config.resolve import resolve
    from srgan_jax.training import previews, samples

    def _open(config, plan):
        found, _ = toys.open_images(config, None)
        return samples.open_samples(found, resolve(config).data, plan, 1)

    config = tiny(defaults.get_config())
    config.data.dataset, config.data.batch_size, config.data.device_share = dataset, 8, share
    open_source = builder.open_source
    monkeypatch.setattr(builder, "open_source", lambda *a, **k: _Spoilt(open_source(*a, **k), (1, 4), (2,)))
    expected, plan = None, toys.plan_of(config)
    for config.data.source in ("stream", "memory"):
        crops = [pair.hr for pair in previews.training_samples(_open(config, plan), plan, config.seed)]
        told = capsys.readouterr().err
        assert told.count("can't be used") == 3 and "of 6 so far" in told
        expected = crops if expected is None else expected
        np.testing.assert_array_equal(crops, expected)
