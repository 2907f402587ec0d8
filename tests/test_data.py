import io
import json
import shutil
import sys
import time
from pathlib import Path

import helpers
import jax
import numpy as np
import pytest
import requests
from PIL import Image

from srgan_jax import images
from srgan_jax.data import builder, datasets, memory, sampling, skip_corrupt, stream
from srgan_jax.runtime.errors import UserError

GEOMETRY = {"crop_px": 32, "margin_px": 8}
SEED = np.asarray(jax.random.key_data(jax.random.key(1)))


def test_a_prepared_folder_keeps_every_pixel(dataset, photo_folder):
    image_set = builder.open_source(dataset)
    found = sorted((image_set[i].tobytes(), image_set[i].shape) for i in range(len(image_set)))
    expected = [images.read_rgb(path) for path in images.find_images(photo_folder)]
    assert found == sorted((image.tobytes(), image.shape) for image in expected) and len(found) == 6
    assert [image_set.size(i) for i in range(6)] == [image_set[i].shape[:2] for i in range(6)]


def test_every_image_file_is_used_or_listed_as_skipped(tmp_path, photo):
    folder = tmp_path / "mixed"
    (folder / "deep" / "er").mkdir(parents=True)
    image = Image.fromarray(photo[:100, :120])
    for suffix in ("png", "jpg", "webp", "bmp", "tif", "gif", "ppm"):
        image.save(folder / "deep" / f"good.{suffix}")
    image.convert("L").save(folder / "deep" / "er" / "gray.PNG")
    image.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.full((99, 99), 40000, np.uint16)).save(folder / "deep16.png")
    moving = Image.fromarray(photo[:98, :98])
    moving.save(folder / "animated.webp", save_all=True, append_images=[image.crop((2, 2, 100, 100))], lossless=True)
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
    image_set = builder.open_source(str(out))
    assert len(image_set) == 11
    named = {image_set.name(index).split(" (number")[0]: image_set[index] for index in range(11)}
    assert set(named["deep16.png"].ravel()) == {156}  # 40000 / 257 = 155.6
    np.testing.assert_array_equal(named["animated.webp"], photo[:98, :98])  # the first frame
    # Preparing again replaces the data set.
    (folder / "deep" / "good.bmp").unlink()
    builder.prepare(str(folder), str(out), min_side_px=96)
    assert len(builder.open_source(str(out))) == 10


def test_a_folder_without_usable_images_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        builder.prepare(str(tmp_path / "absent"), str(tmp_path / "out"))
    with pytest.raises(UserError, match="contains no images"):
        builder.prepare(str(tmp_path), str(tmp_path / "out"))
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(builder.DatasetError, match=r"no usable .*\n  text.png: "):
        builder.prepare(str(tmp_path), str(tmp_path / "out"))


def test_an_out_folder_that_cannot_be_made_is_named(photo_folder, tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(NotADirectoryError, match=f"Not a directory: '{out}"):
            builder.prepare(str(photo_folder), str(out), min_side_px=32)


def test_a_damaged_data_set_in_the_out_folder_is_replaced(dataset, photo_folder, tmp_path):
    shutil.copytree(dataset, tmp_path / "out")
    (file,) = (tmp_path / "out").rglob("dataset_info.json")
    file.write_text(file.read_text()[:100])
    with pytest.raises(builder.DatasetError, match=r"contains a damaged data set \(.*\); prepare it again"):
        builder.open_source(str(tmp_path / "out"))
    builder.prepare(str(photo_folder), str(tmp_path / "out"), min_side_px=32)
    assert len(builder.open_source(str(tmp_path / "out"))) == 6


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("celeb_a", "not on this machine; run: srgan-jax prepare celeb_a"),
        ("div2k/bicubic_x4", "not on this machine; run: srgan-jax prepare div2k/bicubic_x4"),
        ("no_such_set", "neither a prepared folder nor a name in the tfds catalogue"),
        ("data/no_such_folder", "run: srgan-jax prepare YOUR_PHOTOS --out data/no_such_folder"),
    ],
)
def test_absent_data_sets_are_reported_at_once(tmp_path, name, message):
    began = time.time()
    with pytest.raises(builder.DatasetError, match=message):
        builder.open_source(name, data_dir=str(tmp_path))
    assert time.time() - began < 60  # offline, tfds itself retries for minutes


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        (
            "div2k",
            None,
            "div2k can't be downloaded: http.* can't be reached; try again later, or download the images and",
        ),
        ("div2k", 404, "div2k can't be downloaded: .*404.*; or download the images and prepare their folder"),
        (
            "celeb_a",
            404,
            "code for celeb_a needs the package bs4, which .*: pip install bs4, .*; or download the images and",
        ),
    ],
)
def test_a_failed_download_is_reported_with_alternatives(tmp_path, monkeypatch, name, status, message):
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


def test_an_unprepared_folder_is_reported_with_the_command(photo_folder, dataset):
    with pytest.raises(builder.DatasetError, match=f"run: srgan-jax prepare {photo_folder} --out data/NAME"):
        builder.open_source(str(photo_folder))
    with pytest.raises(builder.DatasetError, match="no split 'test'; it has: train"):
        builder.open_source(dataset, split="test")
    with pytest.raises(builder.DatasetError, match=r"feature='hr': expected .*\['image'\]"):
        builder.open_source(dataset, feature="hr")


def test_the_store_and_the_stream_give_the_same_windows(dataset):
    image_set = builder.open_source(dataset)
    sizes = datasets.without_small(image_set, 32)[1]
    for tile_px in (64, 100, 512):
        store = memory.build_store(image_set, sizes, tile_px=tile_px, **GEOMETRY)
        assert store["tiles"].nbytes == memory.store_bytes(sizes, tile_px=tile_px, **GEOMETRY)
        for step in range(6):
            windows, expected = _windows_of_both_sources(image_set, store, step, np.arange(16, dtype=np.int32))
            np.testing.assert_array_equal(windows, expected)


@pytest.mark.parametrize(
    ("tile_px", "window_px", "channels", "shape"),
    [
        (497, 112, 3, (512, 1536)),  # images of 481 px with margins of 8
        (144, 112, 3, (160, 512)),  # 480 bytes a row, and 32 more
        (32, 48, 3, (64, 192)),  # 64 more would look like a fourth channel
        (128, 24, 51, (128, 6528)),  # packed pairs
        (512, 112, 1, (512, 512)),
    ],
)
def test_tiles_have_the_sizes_of_a_tpus_memory(tile_px, window_px, channels, shape):
    """Multiples of 32 rows and 128 bytes; other sizes are copied as a whole by each update on TPUs."""
    found = memory.tile_shape(memory.tile_side(tile_px, window_px), channels)
    assert found == shape and found[1] // found[0] == channels


def _windows_of_both_sources(image_set, store, step, indices):
    chosen = sampling.choose_images(SEED, np.int32(step), indices, 16, len(image_set))
    keys = sampling.sample_keys(SEED, np.int32(step), indices)
    gathered = memory.gather_windows(store, chosen, keys, **GEOMETRY)
    return gathered, stream.read_windows(image_set, SEED, step, indices, batch_size=16, **GEOMETRY)


@pytest.mark.parametrize(("parts", "multiple"), [(2, 1), (3, 4), (8, 2)])
def test_parts_of_the_store_give_the_same_windows(dataset, parts, multiple):
    """As on several hosts, each of which decodes a part of the images; 8 parts of 6 images leave some parts empty."""
    image_set = builder.open_source(dataset)
    sizes, read = datasets.without_small(image_set, 32)[1], []

    class Recorded:
        __len__, __getitem__ = image_set.__len__, lambda self, index: read.append(index) or image_set[index]

    stores = [
        memory.build_store(Recorded(), sizes, tile_px=64, part=part, parts=parts, multiple=multiple, **GEOMETRY)
        for part in range(parts)
    ]
    assert len(read) <= len(image_set) + parts and set(read) == set(range(6))  # the dtype is that of the first
    rows = {store["tiles"].shape[0] for store in stores}
    assert len(rows) == 1 and rows.pop() % multiple == 0
    store = {**stores[-1], "tiles": np.concatenate([store["tiles"] for store in stores])}
    for step in range(3):
        windows, expected = _windows_of_both_sources(image_set, store, step, np.arange(16, dtype=np.int32))
        np.testing.assert_array_equal(windows, expected)


def test_windows_are_parts_of_their_images(dataset):
    """Independent of the code that cuts windows: each window is found in an image whose border is repeated."""
    image_set = builder.open_source(dataset)
    indices = np.arange(16, dtype=np.int32)
    windows = stream.read_windows(image_set, SEED, 0, indices, batch_size=16, **GEOMETRY)
    padded = [np.pad(image_set[i], ((8, 8), (8, 8), (0, 0)), mode="edge") for i in range(len(image_set))]
    for window in windows:
        views = (np.lib.stride_tricks.sliding_window_view(p, (48, 48, 3)) for p in padded)
        assert any((view[:, :, 0] == window).all(axis=(2, 3, 4)).any() for view in views)


def test_the_stream_can_start_at_any_step(dataset):
    image_set = builder.open_source(dataset)
    options = {"batch_size": 4, "threads": 2, **GEOMETRY}
    indices = np.arange(4, dtype=np.int32)
    whole = list(stream.stream_windows(image_set, SEED, range(0, 6), indices, **options))
    later = list(stream.stream_windows(image_set, SEED, range(4, 6), indices, **options))
    assert len(whole) == 6
    np.testing.assert_array_equal(whole[4:], later)
    halves = [
        np.stack(list(stream.stream_windows(image_set, SEED, range(0, 6), part, **options)))
        for part in (indices[:2], indices[2:])
    ]
    np.testing.assert_array_equal(np.concatenate(halves, axis=1), whole)  # two processes read the samples of one


def test_images_smaller_than_the_crop_are_left_out_and_reported(dataset):
    image_set = builder.open_source(dataset)
    kept, sizes, report = datasets.without_small(image_set, 90)
    assert len(kept) == len(sizes) == 5 and sizes.min() >= 90
    assert [kept[i].shape[:2] for i in range(5)] == [tuple(size) for size in sizes.tolist()]
    assert len(report) == 1 and report[0].startswith("1 of 6 images, smaller than config.data.crop_px=90: number ")
    assert report[0].endswith("(64 x 64)")
    with pytest.raises(builder.DatasetError, match="6 of 6 .*config.data.crop_px"):
        datasets.without_small(image_set, 1000)


def test_the_stream_refuses_images_smaller_than_the_crop(dataset):
    image_set = builder.open_source(dataset)
    with pytest.raises(builder.DatasetError, match=r"\[64, 64\] .*config.data.crop_px=90"):
        indices = np.arange(6, dtype=np.int32)  # an epoch: every image once
        stream.read_windows(image_set, SEED, 0, indices, batch_size=6, crop_px=90, margin_px=8)


def test_a_folder_of_several_data_sets_is_refused_with_their_names(tmp_path, photo_folder):
    for name in ("one", "two"):
        builder.prepare(str(photo_folder), str(tmp_path / name), min_side_px=32)
    with pytest.raises(builder.DatasetError, match="2 data sets.*config.data.dataset.*one"):
        builder.open_source(str(tmp_path))


def test_data_set_is_a_tfds_data_set(dataset):
    import tensorflow_datasets as tfds

    folder = next(Path(dataset).glob("**/dataset_info.json")).parent
    source = tfds.builder_from_directory(folder).as_data_source("train")
    assert len(source) == 6 and source[0]["image"].dtype == np.uint8 and source[0]["path"]


class _CorruptImages:
    """A data set of which some images can't be decoded (though their headers are intact), and some can't be read."""

    def __init__(self, image_set, undecodable=(), unreadable=()):
        self._images, self._undecodable, self._unreadable = image_set, undecodable, unreadable
        self.name = image_set.name

    def __len__(self):
        return len(self._images)

    def _read(self, index):
        if index in self._unreadable:
            raise RuntimeError("corrupted chunk\nof array_record")

    def __getitem__(self, index):
        self._read(index)
        if index in self._undecodable:
            raise images.ImageError("image file is truncated")
        return self._images[index]

    def size(self, index):
        self._read(index)
        return self._images.size(index)


def test_corrupt_images_are_replaced_by_the_next(dataset):
    image_set, lines = builder.open_source(dataset), []
    repaired = skip_corrupt.ReadableImages(_CorruptImages(image_set, undecodable=(1, 5), unreadable=(2,)), lines.append)
    for index, expected in enumerate([0, 3, 3, 3, 4, 0]):
        np.testing.assert_array_equal(repaired[index], image_set[expected])
        assert repaired.size(index) == image_set.size(expected)
    assert repaired.corrupt == {1: "image file is truncated", 2: "corrupted chunk", 5: "image file is truncated"}
    assert len(lines) == 3 and lines[0].startswith(f"WARNING: image {image_set.name(1)} can't be used (image file is")
    assert image_set.name(1).startswith("part") and "3 of 6 replaced so far" in lines[2]
    with pytest.raises(builder.DatasetError, match="none of the 6 .*image file"):
        skip_corrupt.ReadableImages(_CorruptImages(image_set, undecodable=range(6)), lines.append)[4]
    small = skip_corrupt.ReadableImages(image_set, lines.append, min_side_px=90)
    assert min(min(small[index].shape[:2]) for index in range(6)) >= 90 and list(small.corrupt.values()) == [
        "64 x 64 px, smaller than config.data.crop_px=90"
    ]


@pytest.mark.parametrize("fraction", [0.5, 0.0], ids=["tiles", "host"])
def test_both_sources_replace_corrupt_images_alike(dataset, monkeypatch, tiny, fraction, capsys):
    """Tiles, host memory and stream give the same samples, and each corrupt image is reported once."""
    from srgan_jax import defaults
    from srgan_jax.config.resolve import resolve
    from srgan_jax.training import previews, samples

    def _open(config, plan):
        found, _ = helpers.open_images(config, None)
        return samples.open_samples(found, resolve(config).data, plan, 1)

    config = tiny(defaults.get_config())
    config.data.dataset, config.data.batch_size, config.data.device_share = dataset, 8, fraction
    open_source = builder.open_source
    monkeypatch.setattr(builder, "open_source", lambda *a, **k: _CorruptImages(open_source(*a, **k), (1, 4), (2,)))
    expected, plan = None, helpers.build_plan(config)
    for config.data.source in ("stream", "memory"):
        crops = [pair.hr for pair in previews.training_samples(_open(config, plan), plan, config.seed)]
        report = capsys.readouterr().err
        assert report.count("can't be used") == 3 and "of 6 replaced so far" in report
        expected = crops if expected is None else expected
        np.testing.assert_array_equal(crops, expected)
