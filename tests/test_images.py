import io
import itertools
import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from srgan_jax import images
from srgan_jax.runtime.errors import UserError


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp"])
def test_lossless_formats_are_read_exactly(tmp_path, photo, suffix):
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(photo).save(path, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(images.read_rgb(path), photo)


def test_orientation_is_applied(tmp_path, photo):
    exif = Image.Exif()
    exif[0x0112] = 6  # viewers rotate it by 90 degrees clockwise
    Image.fromarray(photo).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(images.read_rgb(tmp_path / "turned.png"), np.rot90(photo, -1))
    assert images.image_size(tmp_path / "turned.png") == (448, 300)
    assert images.image_size(io.BytesIO(images.encode_png(photo))) == (300, 448)


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
    [(b"", "an empty file"), (b"text", "not an image in a known format"), (None, "truncated")],
)
def test_unreadable_files_are_reported_with_the_reason(tmp_path, photo, content, reason):
    whole = images.encode_png(photo)
    (tmp_path / "bad.png").write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(images.ImageError, match=f"bad.png: .*{reason}"):
        images.read_rgb(tmp_path / "bad.png")


def test_images_over_the_pixel_limit_are_refused(tmp_path, photo):
    images.write_image(tmp_path / "large.png", photo)  # 134,400 pixels
    with pytest.raises(images.ImageError, match="megapixels, more than the limit of 0.1"):
        images.decode_rgb(tmp_path / "large.png", max_pixels=100_000)


def _cmyk_profile():
    """Returns a minimal ICC profile (version 2.1) from CMYK to Lab: a table of two steps a channel, always gray.

    The lightness is 100 * (1 - (C + 2 M + Y + 4 K) / 8): 100 without ink.
    """
    identity = bytes(range(256))
    inks = itertools.product((0, 1), repeat=4)
    table = b"".join(bytes([round(255 * (1 - (c + 2 * m + y + 4 * k) / 8)), 128, 128]) for c, m, y, k in inks)
    unit = struct.pack(">9i", *(65536 if place in (0, 4, 8) else 0 for place in range(9)))
    a2b = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + unit + identity * 4 + table + identity * 3
    tags = struct.pack(">I4sII", 1, b"A2B0", 144, len(a2b))
    header = struct.pack(">I4sI4s4s4s", 144 + len(a2b), bytes(4), 0x02100000, b"prtr", b"CMYK", b"Lab ")
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + tags + a2b


def _kinds(folder, photo):
    """Writes files for which Pillow's own conversion to RGB gives another result, or an error."""
    small = photo[:24, :32]
    deep = small.astype(np.uint16) * 257 + 130  # 130 above a multiple of 257 rounds up
    tifffile.imwrite(folder / "planar16.tif", np.moveaxis(deep, -1, 0), photometric="rgb", planarconfig="separate")
    tifffile.imwrite(folder / "rgb16.tif", deep, photometric="rgb")
    tifffile.imwrite(folder / "white_is_zero16.tif", 65535 - deep[..., 0], photometric="miniswhite")
    tifffile.imwrite(folder / "float.tif", small.astype(np.float32) / 255, photometric="rgb")
    (folder / "rgb16.png").write_bytes(imagecodecs.png_encode(deep))
    alpha = np.concatenate([deep, deep[..., :1]], axis=-1)
    (folder / "rgba16.png").write_bytes(imagecodecs.png_encode(np.ascontiguousarray(alpha)))
    Image.fromarray(small).convert("LAB").save(folder / "lab.tif")
    Image.fromarray(small).convert("LA").save(folder / "gray_alpha.png")
    Image.fromarray(small).convert("P").save(folder / "palette.gif", transparency=3)
    frames = [Image.fromarray(photo[i : i + 24, :32]) for i in (0, 9)]
    frames[0].save(folder / "animated.webp", save_all=True, append_images=frames[1:], lossless=True)


def test_read_rgb_agrees_with_read_image(tmp_path, photo):
    """Training and evaluation read the image that `read_image` gives: on white, rounded to 8 bits, gray repeated."""
    _kinds(tmp_path, photo)
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 10
    for path in paths:
        frame = images.read_image(path).frames[0].astype(np.float64)
        frame /= 65535 if images.read_image(path).frames[0].dtype == np.uint16 else 255
        if frame.shape[-1] in (2, 4):
            frame = frame[..., :-1] * frame[..., -1:] + 1 - frame[..., -1:]
        expected = np.broadcast_to(frame * 255, (*frame.shape[:2], 3))
        found = images.read_rgb(path)
        assert found.dtype == np.uint8 and found.shape == expected.shape, path.name
        assert np.abs(found - expected).max() <= 0.51, path.name  # on white in 16 bits, then rounded once more


def test_cmyk_is_read_through_its_profile(tmp_path, photo):
    cmyk = np.zeros((2, 3, 4), np.uint8)
    cmyk[0, 0, 1] = 255  # magenta: lightness 75 by the profile, a gray of 185 in sRGB; red and blue without it
    Image.fromarray(cmyk, "CMYK").save(tmp_path / "cmyk.tif", icc_profile=_cmyk_profile())
    found = images.read_rgb(tmp_path / "cmyk.tif")
    np.testing.assert_array_equal(found, images.read_image(tmp_path / "cmyk.tif").frames[0])
    assert np.ptp(found[0, 0].astype(int)) <= 3 and abs(found[0, 0].mean() - 185) < 3
    assert found[1, 1].min() >= 254


def test_16_bit_values_are_rounded_not_truncated(tmp_path):
    """40000 / 257 = 155.64 is read as 156, not as 155, and not as the low byte, 64."""
    samples = np.full((4, 5, 3), 40000, np.uint16)
    tifffile.imwrite(tmp_path / "planar.tif", np.moveaxis(samples, -1, 0), photometric="rgb", planarconfig="separate")
    (tmp_path / "rgb.png").write_bytes(imagecodecs.png_encode(samples))
    for name in ("planar.tif", "rgb.png"):
        np.testing.assert_array_equal(images.read_rgb(tmp_path / name), np.full((4, 5, 3), 156), err_msg=name)
        assert images.conversion(tmp_path / name).startswith("16 bits")


def test_folders_are_searched_in_order(tmp_path):
    for name in ("b.png", "a/z.JPG", "a/.hidden.png", ".cache/x.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in images.find_images(tmp_path)] == ["a/z.JPG", "b.png"]


def test_linked_folders_are_searched_without_cycles(tmp_path):
    """Users arrange data sets with symbolic links."""
    for name in ("data/b.png", "elsewhere/c.png", "elsewhere/deep/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "data")
    (tmp_path / "elsewhere" / "self").symlink_to("self")
    (tmp_path / "elsewhere" / "deep" / "broken").symlink_to(tmp_path / "absent")
    found = images.find_images(tmp_path / "data")
    assert [path.relative_to(tmp_path / "data").as_posix() for path in found] == [
        "b.png",
        "linked/c.png",
        "linked/deep/d.png",
    ]


def test_writing_leaves_no_partial_files(tmp_path, photo):
    with pytest.raises(ValueError, match="unknown .*'.xyz'; valid: .avif, .bmp"):
        images.write_image(tmp_path / "picture.xyz", photo)
    with pytest.raises(ValueError, match=r"expected .* uint16 or float in .*, got \(300, 448, 3\) int32"):
        images.write_image(tmp_path / "picture.png", photo.astype(np.int32))
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


def test_an_image_that_cannot_be_read_is_named_in_the_error(tmp_path):
    (tmp_path / "text.jpg").write_text("not a picture")
    for name, reason in (("text.jpg", "not an image in a known format"), ("absent.jpg", "no such file or folder")):
        with pytest.raises(images.ImageError) as caught:
            images.read_image(tmp_path / name)
        assert str(caught.value) == f"{tmp_path / name}: {reason}"


def test_floats_are_written_with_eight_bits(tmp_path):
    """What `upscale` returns for floats: clipped to [0, 1] and rounded, as 0.5 * 255 = 127.5 becomes 128."""
    image = np.zeros((8, 8, 3), np.float32) + np.array([0.5, -0.1, 1.2], np.float32)
    images.write_image(tmp_path / "a.png", image)
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.png").frames[0][0, 0], [128, 0, 255])
    with pytest.raises(UserError, match=r"expected an image \[H, W, 1 to 4\], uint8, uint16 or float in \[0, 1\], got"):
        images.write_image(tmp_path / "b.png", np.zeros((8, 8, 3), np.int32))
