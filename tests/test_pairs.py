import dataclasses
import functools
import hashlib
import json

import jax
import numpy as np
import pytest

from srgan_jax import cli, images
from srgan_jax.config.schema import DataConfig, ValidationConfig
from srgan_jax.data import batches, builder, datasets, memory, sampling, stream
from srgan_jax.data.batch_plan import BatchPlan
from srgan_jax.images import paired_folders
from srgan_jax.ops import resize
from srgan_jax.runtime import devices
from srgan_jax.runtime.errors import UserError
from srgan_jax.training import samples
from srgan_jax.training.validation import read_validation

SEED = np.asarray(jax.random.key_data(jax.random.key(1)))


def _write(folder, name, image):
    images.write_image(folder / name, np.ascontiguousarray(image))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, photo):
    """A data set of pairs of scale 2 whose HR is LR with every pixel repeated, so that every crop shows a mismatch."""
    folder, out = tmp_path_factory.mktemp("pairs"), str(tmp_path_factory.mktemp("prepared"))
    for index, (height, width) in enumerate([(60, 70), (48, 48), (90, 50)]):
        lr = photo[index : index + height, 100 : 100 + width]
        _write(folder / "hr" / "deep", f"{index}.png", lr.repeat(2, 0).repeat(2, 1))
        _write(folder / "lr" / "deep", f"{index}x2.png", lr)
    assert builder.prepare(str(folder), out, min_side_px=32) == {}
    return out


def test_prepared_pairs_match(prepared):
    found = datasets.open_images(prepared, scale=2, lr_feature="lr")
    assert len(found) == 3
    for index in range(3):
        packed = found[index]
        assert packed.shape == (*found.size(index), 2 * 2 * 3 + 3)
        for part in range(4):
            np.testing.assert_array_equal(packed[..., 3 * part : 3 * part + 3], packed[..., -3:])


@pytest.mark.parametrize("source", ["memory", "stream"])
def test_hr_and_lr_crops_are_from_the_same_place(prepared, source):
    found = datasets.open_images(prepared, scale=2, lr_feature="lr")
    geometry, indices = {"crop_px": 16, "margin_px": 0}, np.arange(8, dtype=np.int32)
    keys = sampling.sample_keys(SEED, np.int32(3), indices)
    if source == "memory":
        sizes = datasets.without_small(found, 16)[1]
        store = memory.build_store(found, sizes, tile_px=32, channels=15, **geometry)
        assert store["tiles"].nbytes == memory.store_bytes(sizes, tile_px=32, channels=15, **geometry)
        chosen = sampling.choose_images(SEED, np.int32(3), indices, 8, 3)
        windows = memory.gather_windows(store, chosen, keys, **geometry)
    else:
        windows = stream.read_windows(found, SEED, 3, indices, batch_size=8, **geometry)
    batch = batches.make_paired_batch(windows, keys, scale=2)
    assert batch["hr"].shape == (8, 32, 32, 3) and batch["lr"].shape == (8, 16, 16, 3)
    np.testing.assert_array_equal(np.asarray(batch["lr"]).repeat(2, 1).repeat(2, 2), batch["hr"])
    assert len({np.asarray(sample).tobytes() for sample in batch["lr"]}) == 8


@pytest.mark.parametrize("devices_", [1, 4])
def test_whole_tiles_give_the_same_windows_as_rows(prepared, devices_, monkeypatch):
    """Rows that are too long for a TPU's gather unit are cut from whole tiles, here run on the CPU."""
    found = datasets.open_images(prepared, scale=2, lr_feature="lr")
    store = memory.build_store(
        found, datasets.without_small(found, 16)[1], crop_px=16, margin_px=0, tile_px=32, channels=15
    )
    keys = sampling.sample_keys(SEED, np.int32(3), np.arange(8, dtype=np.int32))
    chosen = sampling.choose_images(SEED, np.int32(3), np.arange(8, dtype=np.int32), 8, 3)
    mesh = devices.make_mesh(jax.devices()[:devices_])

    def gather(contrast):
        token = devices.batch_mesh.set(mesh)
        try:
            return jax.jit(functools.partial(memory.gather_windows, crop_px=16, margin_px=0, min_contrast=contrast))(
                store, chosen, keys
            )
        finally:
            devices.batch_mesh.reset(token)

    expected = [gather(contrast) for contrast in (0.0, 5.0)]
    monkeypatch.setattr(memory, "ROW_BYTES", 100)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *arguments, tpu, default: tpu(*arguments))
    for windows, contrast in zip(expected, (0.0, 5.0), strict=True):
        np.testing.assert_array_equal(gather(contrast), windows)


def test_packing_keeps_every_pixel_in_its_place(photo):
    hr, lr = photo[:30, :42], photo[100:110, 50:64]
    packed = datasets.pack(hr, lr)
    batch = batches.make_paired_batch(packed[None], jax.random.split(jax.random.key(0), 1), scale=3, augment="none")
    np.testing.assert_array_equal(np.round(np.asarray(batch["hr"][0]) * 255), hr)
    np.testing.assert_array_equal(np.round(np.asarray(batch["lr"][0]) * 255), lr)


def test_hr_images_alone_and_resized_images(prepared, dataset):
    assert datasets.open_images(prepared, scale=2)[0].shape[-1] == 3  # "hr" is read by default
    found = datasets.open_images(prepared, scale=2, lr_feature="lr", resize_px=40)
    assert found[0].shape == (20, 20, 15) and found.size(0) == (20, 20)
    squares = datasets.open_images(dataset, scale=4, resize_px=48)
    original = builder.open_source(dataset)[2]
    assert squares[2].shape == (48, 48, 3) and squares.size(2) == (48, 48)
    expected = np.asarray(resize.resize(original / 255, (48, 48), convention="A")) * 255
    assert np.abs(squares[2] - expected).max() < 1.01  # convention A rounds between the passes


def test_pairs_must_have_the_generators_scale(prepared):
    with pytest.raises(builder.DatasetError, match=r"3 of 3 pairs are not of scale 4 .*\n  number \d: HR \d+ x"):
        datasets.open_images(prepared, scale=4, lr_feature="lr")


def test_unmatched_names_are_listed(tmp_path, photo):
    for index in range(14):
        _write(tmp_path / "hr", f"a{index:02d}.png", photo[:40, :40])
    _write(tmp_path / "lr", "a00.png", photo[:40, :40])
    _write(tmp_path / "lr", "b.png", photo[:40, :40])
    with pytest.raises(UserError) as caught:
        builder.prepare(str(tmp_path), str(tmp_path / "out"))
    lines = str(caught.value).splitlines()
    assert "14 images are in one of them only" in lines[0] and len(lines) == 11
    assert lines[1].strip() == "hr/a01 is missing in lr"
    (tmp_path / "lr" / "b.jpg").write_bytes((tmp_path / "lr" / "b.png").read_bytes())
    with pytest.raises(UserError, match=r"differ in their suffix only: b\.\w+"):
        paired_folders.match_pairs(paired_folders.find_layout(tmp_path))


def test_sizes_of_another_scale_are_listed(tmp_path, photo):
    for index, (hr, lr) in enumerate([(80, 20), (80, 20), (84, 20), (81, 20)]):
        _write(tmp_path / "hr", f"{index}.png", photo[:hr, :80])
        _write(tmp_path / "lr", f"{index}.png", photo[:lr, :20])
    with pytest.raises(
        UserError, match=r"2 of 4 pairs don't have the scale x4 that most have:\n  2.png: HR 80 x 84, LR"
    ):
        builder.prepare(str(tmp_path), str(tmp_path / "out"))


def test_a_pair_with_a_corrupt_image_is_skipped(tmp_path, photo):
    for index in range(3):
        _write(tmp_path / "hr", f"{index}.png", photo[:96, :96])
        _write(tmp_path / "lr", f"{index}.png", photo[:24, :24])
    (tmp_path / "lr" / "1.png").write_bytes(b"no picture")
    skipped = builder.prepare(str(tmp_path), str(tmp_path / "out"))
    assert set(skipped) == {"hr/1.png"} and json.loads((tmp_path / "out" / "skipped.json").read_text()) == skipped
    assert len(datasets.open_images(str(tmp_path / "out"), scale=4, lr_feature="lr")) == 2


@pytest.mark.parametrize(
    ("hr", "lr"),
    [
        ("HR", "LR"), ("GT", "LQ"), ("gt", "lq"), ("train/hr", "train/lr"), ("HR", "LRx4"), ("gt", "lq_x4"),
        ("DIV2K_train_HR", "DIV2K_train_LR_bicubic/X4"),
    ],
)  # fmt: skip
def test_pairs_are_recognised_by_the_usual_names_and_told(tmp_path, photo, hr, lr, capsys):
    for index in range(2):
        _write(tmp_path / "pairs" / hr, f"{index}.png", photo[: 96 + 4 * index, :100])
        _write(tmp_path / "pairs" / lr, f"{index}.png", photo[: 24 + index, :25])
    (tmp_path / "pairs" / hr / "2.png").write_bytes(b"damaged")
    (tmp_path / "pairs" / lr / "2.png").write_bytes(b"damaged")
    out = str(tmp_path / "out")
    assert cli.main(["prepare", str(tmp_path / "pairs"), "-o", out]) == 0
    printed = capsys.readouterr().out
    assert f"pairs: HR images in {hr}, LR images in {lr}\n" in printed
    assert "2 pairs prepared, 1 skipped" in printed
    found = datasets.open_images(out, scale=4, lr_feature="lr")
    assert {found.size(index) for index in range(2)} == {(24, 25), (25, 25)}


def test_several_lr_folders_and_a_template_of_names(tmp_path, photo, capsys):
    source, out = tmp_path / "pairs", str(tmp_path / "out")
    for index in range(2):
        _write(source / "HR", f"a{index}.png", photo[:96, :100])
        for level in ("mild", "wild"):
            _write(source / f"LR_{level}", f"a{index}_{level}.png", photo[:24, index : 25 + index])
            _write(source / f"LR_named_{level}", f"lr-a{index}-x4.png", photo[:24, index : 25 + index])
    assert cli.main(["prepare", str(source), "-o", out]) == 2
    assert "choose with --lr one or more of: LR_mild LR_named_mild LR_named_wild LR_wild" in capsys.readouterr().err
    assert cli.main(["prepare", str(source), "-o", out, "--lr", "LR_mild"]) == 2
    assert "HR/a0 is missing in LR_mild" in capsys.readouterr().err
    assert cli.main(["prepare", str(source), "-o", out, "--lr", "LR_mild", "--lr-name", "{name}_mild"]) == 0
    assert "2 pairs prepared, 0 skipped" in capsys.readouterr().out
    both = ["--lr", "LR_named_mild", "LR_named_wild", "--lr-name", "lr-{name}-x4"]
    assert cli.main(["prepare", str(source), "-o", str(tmp_path / "both"), *both]) == 0
    found = datasets.open_images(str(tmp_path / "both"), scale=4, lr_feature="lr")
    starts = sorted(int(found[index][0, 0, -3]) for index in range(4))
    assert starts == sorted(2 * [int(photo[0, index, 0]) for index in range(2)])


def test_lr_images_without_hr_images_beside_are_told(tmp_path, photo, capsys):
    _write(tmp_path / "photos" / "lr", "a.png", photo[:100, :100])
    assert cli.main(["prepare", str(tmp_path / "photos"), "-o", str(tmp_path / "out")]) == 0
    assert "photos/lr: named as LR images, but without HR images beside" in capsys.readouterr().out


def test_a_paired_data_set_uses_its_lr_images_by_default(prepared, dataset, tmp_path, capsys):
    data = DataConfig(dataset=prepared)
    found = samples.with_pairs(data, tmp_path)
    assert found.lr == "lr" and "LR images are used; config.data.lr_feature=none" in capsys.readouterr().err
    assert samples.with_pairs(dataclasses.replace(data, lr_feature="none"), tmp_path).lr == ""
    assert samples.with_pairs(DataConfig(dataset=dataset), tmp_path).lr == ""
    recorded = {"stage_names": ["gan"], "generator": {"name": "srresnet"}, "data": {"lr_feature": ""}}
    (tmp_path / "config.json").write_text(json.dumps(recorded))  # a run of an earlier version
    assert samples.with_pairs(data, tmp_path).lr == ""


def test_pairs_can_be_held_out_with_their_lr_images(tmp_path, photo):
    """LR is dark here, unlike bicubic LR."""
    for index in range(8):
        hr = photo[8 * index : 8 * index + 64, :72]
        _write(tmp_path / "pairs" / "hr", f"{index}.png", hr)
        _write(tmp_path / "pairs" / "lr", f"{index}.png", hr[::2, ::2] // 4)
    out = str(tmp_path / "out")
    builder.prepare(str(tmp_path / "pairs"), out, min_side_px=32)
    data, validation = DataConfig(dataset=out, lr_feature="lr", crop_px=64), ValidationConfig(hold_out=2)
    plan = BatchPlan(2, 64, 4)
    rest, held_out = samples.open_images(data, validation, plan, tmp_path / "run")
    pairs = read_validation(validation, plan, None, held_out).pairs
    assert len(rest) == 6 and len(pairs) == 2
    for pair in pairs:
        assert pair.hr.shape == (64, 72, 3)
        np.testing.assert_array_equal(pair.lr, pair.hr[::2, ::2] // 4)
    trained = {rest[index].tobytes() for index in range(6)}
    assert not any(datasets.pack(pair.hr, pair.lr).tobytes() in trained for pair in pairs)


class _ImageList(list):
    """A list of images with the methods of a data set; their names are numbers only."""

    def size(self, index):
        return self[index].shape[:2]

    def digest(self, index):
        return hashlib.sha256(self[index].tobytes()).hexdigest()

    def name(self, index):
        return f"number {index}"


def test_the_validation_split_depends_on_image_content_alone():
    """Order and names don't count; copies of validation images are not trained on; small images are no candidates."""
    large = [np.full((40, 50, 3), value, np.uint8) for value in range(9)]
    image_list = _ImageList([*large, *large[::-1], np.zeros((8, 9, 3), np.uint8)])
    rest, held_out = datasets.split_validation(image_list, 2, 32)
    shown = {int(image[0, 0, 0]) for image in held_out}
    assert len(held_out) == 2 and len(shown) == 2 and min(held_out.size(0)) == 40
    trained = [int(image[0, 0, 0]) for image in rest if image.shape[0] == 40]
    assert sorted(trained) == sorted(2 * [value for value in range(9) if value not in shown])
    assert len(rest) == 2 * 7 + 1  # the small image is kept for training, which may leave it out
    turned = datasets.split_validation(_ImageList(image_list[4:] + image_list[:4]), 2, 32)[1]
    assert {int(image[0, 0, 0]) for image in turned} == shown
    assert len(datasets.split_validation(image_list, 100, 32)[1]) == 2  # a quarter of nine
    with pytest.raises(UserError, match="3 different .* 32 px .*too few"):
        datasets.split_validation(_ImageList(large[:3] * 2), 2, 32)


@pytest.mark.parametrize("broken", ["digest", "size", "__getitem__"])
def test_corrupt_images_are_not_in_the_validation_split(broken):
    """Training replaces and reports them when it reads them."""
    large = [np.full((40, 50, 3), value, np.uint8) for value in range(9)]
    chosen = {int(image[0, 0, 0]) for image in datasets.split_validation(_ImageList(large), 2, 32)[1]}
    damaged = min(chosen)

    class Damaged(_ImageList):
        pass

    def read(self, index):
        if int(list.__getitem__(self, index)[0, 0, 0]) == damaged:
            raise ValueError("damaged")
        return getattr(_ImageList, broken)(self, index)

    setattr(Damaged, broken, read)
    rest, held_out = datasets.split_validation(Damaged(large), 2, 32)
    assert len(held_out) == 2 and len(rest) == 7
    assert damaged not in {int(image[0, 0, 0]) for image in held_out}
