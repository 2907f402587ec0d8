import io

import numpy as np
import pytest
from PIL import Image

from srgan_jax import images


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp"])
def test_lossless_formats_come_back(tmp_path, photo, suffix):
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(photo).save(path, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(images.read_rgb(path), photo)


def test_orientation_is_applied(tmp_path, photo):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise when shown
    Image.fromarray(photo).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(images.read_rgb(tmp_path / "turned.png"), np.rot90(photo, -1))
    assert images.picture_size(tmp_path / "turned.png") == (448, 300)
    assert images.picture_size(io.BytesIO(images.encode_png(photo))) == (300, 448)


def test_gray_palette_alpha_and_16_bit(tmp_path):
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(gray).save(tmp_path / "gray.png")
    np.testing.assert_array_equal(images.read_rgb(tmp_path / "gray.png"), np.repeat(gray[..., None], 3, axis=-1))
    # 16 bits: 257 * v is v exactly; 257 * v + 128 is the last value that rounds down, + 129 the first that rounds up.
    deep = gray.astype(np.uint16) * 257
    deep[0, 1] += 128
    deep[0, 2] += 129
    Image.fromarray(deep).save(tmp_path / "deep.png")
    expected = gray.copy()
    expected[0, 2] += 1
    np.testing.assert_array_equal(images.read_rgb(tmp_path / "deep.png")[..., 0], expected)
    clear = np.zeros((2, 2, 4), np.uint8)
    clear[0, 0] = (10, 20, 30, 255)
    Image.fromarray(clear).save(tmp_path / "alpha.png")
    rgb = images.read_rgb(tmp_path / "alpha.png")
    assert rgb[0, 0].tolist() == [10, 20, 30] and rgb[1, 1].tolist() == [255, 255, 255]
    Image.fromarray(gray).convert("P").save(tmp_path / "palette.gif")
    assert images.read_rgb(tmp_path / "palette.gif").shape == (16, 16, 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "not a picture in a known format"), (b"text", "not a picture in a known format"), (None, "truncated")],
)
def test_bad_files_say_why(tmp_path, photo, content, reason):
    whole = images.encode_png(photo)
    (tmp_path / "bad.png").write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(images.ImageError, match=f"bad.png: .*{reason}"):
        images.read_rgb(tmp_path / "bad.png")


def test_absurd_sizes_are_refused(monkeypatch, tmp_path, photo):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    images.write_image(tmp_path / "large.png", photo)  # 134,400 pixels
    with pytest.raises(images.ImageError, match="more than 0 megapixels"):
        images.read_rgb(tmp_path / "large.png")


def test_folders_are_searched_in_order(tmp_path):
    for name in ("b.png", "a/z.JPG", "a/.hidden.png", ".cache/x.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in images.find_pictures(tmp_path)] == ["a/z.JPG", "b.png"]


def test_linked_folders_are_searched_but_not_in_circles(tmp_path):
    """People lay out data sets by `ln -s`."""
    for name in ("data/b.png", "elsewhere/c.png", "elsewhere/deep/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "data")
    (tmp_path / "elsewhere" / "self").symlink_to("self")
    (tmp_path / "elsewhere" / "deep" / "broken").symlink_to(tmp_path / "absent")
    found = images.find_pictures(tmp_path / "data")
    assert [path.relative_to(tmp_path / "data").as_posix() for path in found] == [
        "b.png",
        "linked/c.png",
        "linked/deep/d.png",
    ]


def test_writing_leaves_no_half_files(tmp_path, photo):
    with pytest.raises(ValueError, match="unknown picture format '.xyz'; valid: .avif, .bmp"):
        images.write_image(tmp_path / "picture.xyz", photo)
    with pytest.raises(ValueError, match=r"expected \[H, W, 1 to 4\] uint8 or uint16, got \(300, 448, 3\) float64"):
        images.write_image(tmp_path / "picture.png", photo / 255)
    assert list(tmp_path.iterdir()) == []
    images.write_image(tmp_path / "deep" / "picture.jpg", photo)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["picture.jpg"]
    with Image.open(tmp_path / "deep" / "picture.jpg") as written:
        assert written.layer[0][1:3] == written.layer[1][1:3]  # 4:4:4: no channel is subsampled


def test_side_by_side(photo):
    row = images.side_by_side([photo[:75, :100], photo[:300, :400]], gap=4)
    assert row.shape == (300, 804, 3)
    np.testing.assert_array_equal(row[:, :400][::4, ::4], photo[:75, :100])
    np.testing.assert_array_equal(row[:, 404:], photo[:300, :400])


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "text.jpg").write_text("not a picture")
    for name, reason in (("text.jpg", "not a picture in a known format"), ("absent.jpg", "no such file")):
        with pytest.raises(images.ImageError) as caught:
            images.read_image(tmp_path / name)
        assert str(caught.value) == f"{tmp_path / name}: {reason}"
