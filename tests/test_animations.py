"""Tests of animations: GIF, APNG, WebP and AVIF frame by frame, with transparency, durations and repetitions."""

import shutil
import struct
import subprocess
import tracemalloc
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, features

from srgan_jax import bulk, images
from srgan_jax.images.containers import apng, canvas, gif, webp

RED, GREEN, CLEAR = (255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 0, 0)


def _upscale(bilinear, path, format="", **options):
    lines = []
    jobs = bulk.find_jobs([path], path.parent / "out", format=format)
    summary = bulk.upscale_files(jobs, bilinear, bulk.target_size(2), tile_px=32, report=lines.append, **options)
    assert summary.failed == [], summary.failed
    return summary.done[0].target, lines


def _moving_disc(count, side=32):
    """Red discs on transparency, with a soft edge, at another place in each frame."""
    y, x = np.mgrid[:side, :side]
    frames = []
    for index in range(count):
        distance = np.hypot(y - side / 2, x - 10 - 3 * index % 12)
        alpha = np.clip((8.5 - distance) * 100, 0, 255)
        frames.append(np.dstack([np.full((side, side), 255), 0 * x, 0 * x, alpha]).astype(np.uint8))
    return frames


def _apng(parts, size, loop=0):
    """Returns an APNG of `parts`: RGBA samples, left, top, disposal, blend (numbers as in the specification)."""
    out, number = apng.SIGNATURE, 0
    for index, (samples, left, top, disposal, blend) in enumerate(parts):
        buffer = BytesIO()
        Image.fromarray(samples).save(buffer, "PNG")
        data = {kind: buffer.getvalue()[at : at + n] for kind, at, n in apng.chunks(buffer)}
        if index == 0:
            out += apng.chunk(b"IHDR", struct.pack(">II", *size) + data[b"IHDR"][8:])
            out += apng.chunk(b"acTL", struct.pack(">II", len(parts), loop))
        height, width = samples.shape[:2]
        fields = (number, width, height, left, top, 1, 30, disposal, blend)
        out += apng.chunk(b"fcTL", struct.pack(apng.CONTROL, *fields))
        number += 1
        if index:
            out += apng.chunk(b"fdAT", struct.pack(">I", number) + data[b"IDAT"])
            number += 1
        else:
            out += apng.chunk(b"IDAT", data[b"IDAT"])
    return out + apng.END


def _gif(parts, size):
    """Returns a GIF of `parts`: indices, palette, left, top, disposal, transparent index or None."""
    out = b"GIF89a" + struct.pack("<HHBBB", *size, 0x70, 0, 0)
    for indices, palette, left, top, disposal, transparent in parts:
        image = Image.fromarray(indices)
        image.putpalette(palette)
        buffer = BytesIO()
        image.save(buffer, "GIF", optimize=False)
        (part,) = gif.read_parts(BytesIO(buffer.getvalue()))
        ((start, length),) = part.spans
        table = bytes(palette).ljust(12, b"\0")
        descriptor = struct.pack("<4HB", left, top, part.width, part.height, 0x81 | part.header[-1])
        out += b"!\xf9\4" + struct.pack("<BHB", disposal << 2 | (transparent is not None), 7, transparent or 0) + b"\0"
        out += b"," + descriptor + table + buffer.getvalue()[start : start + length]
    return out + b";"


def test_disposal_and_palettes_of_a_gif():
    """Worked out by hand, as browsers show it."""
    colours = {"red": [255, 0, 0, 0, 0, 0], "green": [0, 255, 0, 0, 0, 0]}
    whole, dot = np.zeros((2, 3), np.uint8), np.zeros((1, 1), np.uint8)
    parts = [
        (whole, colours["red"], 0, 0, 1, None),  # all red, stays
        (dot, colours["green"], 1, 0, 3, None),  # one green pixel, then as before
        (dot, colours["green"], 2, 1, 2, None),  # one green pixel, then transparent
        (dot, colours["green"], 0, 0, 0, 0),  # draws nothing: its only pixel is transparent
    ]
    picture = images.read_image(BytesIO(_gif(parts, (3, 2))))
    assert picture.durations_ms == (70,) * 4 and picture.loop == 1
    expected = [
        [[RED, RED, RED], [RED, RED, RED]],
        [[RED, GREEN, RED], [RED, RED, RED]],
        [[RED, RED, RED], [RED, RED, GREEN]],
        [[RED, RED, RED], [RED, RED, CLEAR]],
    ]
    np.testing.assert_array_equal(np.stack(picture.frames), np.array(expected, np.uint8))


def test_blend_and_disposal_of_an_apng():
    """Half-transparent green over red is (127, 128, 0); over such red, alpha is 128 + 127 * 128 / 255."""
    red, green = (np.full((2, 2, 4), colour, np.uint8) for colour in (RED, GREEN))
    half = np.array([[[0, 255, 0, 128]]], np.uint8)
    parts = [(red, 0, 0, 0, 0), (half, 0, 0, 2, 1), (half, 1, 1, 1, 0), (half, 1, 1, 0, 1), (green, 0, 0, 0, 0)]
    picture = images.read_image(BytesIO(_apng(parts, (2, 2), loop=5)))
    assert picture.loop == 5 and picture.durations_ms == (1000 / 30,) * 5
    mixed, alone = (127, 128, 0, 255), (0, 255, 0, 128)
    expected = [
        [[RED, RED], [RED, RED]],
        [[mixed, RED], [RED, RED]],
        [[RED, RED], [RED, alone]],
        [[RED, RED], [RED, alone]],  # over what was cleared
        [[GREEN, GREEN], [GREEN, GREEN]],
    ]
    np.testing.assert_array_equal(np.stack(picture.frames), np.array(expected, np.uint8))
    below = np.array([[[255, 0, 0, 128]]], np.uint8)
    np.testing.assert_array_equal(canvas.composite(half, below), [[[84, 170, 0, 191]]])


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("apngdis"), reason="needs apngdis")
def test_random_apngs_are_read_and_written_as_apngdis_reads_them(tmp_path):
    rng = np.random.default_rng(0)

    def disassembled(path):
        for old in tmp_path.glob("apngframe*"):
            old.unlink()
        subprocess.run(["apngdis", path.name], cwd=tmp_path, capture_output=True, check=True)
        return [np.asarray(Image.open(file).convert("RGBA")) for file in sorted(tmp_path.glob("apngframe*.png"))]

    for _ in range(4):
        parts = []
        for index in range(6):
            height, width = (24, 32) if index == 0 else (rng.integers(1, 24), rng.integers(1, 32))
            samples = rng.integers(0, 256, (height, width, 4)).astype(np.uint8)
            samples[..., 3] = rng.choice([0, 100, 200, 255], (height, width))
            left, top = rng.integers(0, 33 - width), rng.integers(0, 25 - height)
            parts.append((samples, left, top, rng.integers(0, 3), rng.integers(0, 2)))
        (tmp_path / "a.png").write_bytes(_apng(parts, (32, 24)))
        picture = images.read_image(tmp_path / "a.png")
        images.write_image(tmp_path / "b.png", picture)
        for name in ("a.png", "b.png"):
            for frame, expected in zip(picture.frames, disassembled(tmp_path / name), strict=True):
                visible = frame[..., 3:] > 0
                np.testing.assert_array_equal(frame[..., 3], expected[..., 3])
                np.testing.assert_array_equal(frame * visible, expected * visible)


def test_a_gif_with_transparency_has_no_colours_of_its_own(bilinear, tmp_path):
    """The source holds red alone: no opaque pixel of the result may have another colour."""
    first, *rest = map(Image.fromarray, _moving_disc(3))
    options = {"save_all": True, "append_images": rest, "duration": 100, "loop": 0, "disposal": 2}
    first.save(tmp_path / "a.gif", **options)
    target, lines = _upscale(bilinear, tmp_path / "a.gif")
    assert target.name == "a.gif" and lines == []
    after = images.read_image(target)
    assert after.durations_ms == (100,) * 3 and after.loop == 0 and after.shape == (64, 64, 4)
    for frame in after.frames:
        visible = frame[frame[..., 3] == 255]
        assert 500 < len(visible) < 1200 and visible[:, 1:3].max() <= 16 and visible[:, 0].min() >= 239


def test_alpha_of_a_half_is_opaque_in_a_gif(tmp_path):
    frame = np.array([[[9, 8, 7, 127], [9, 8, 7, 128], [1, 2, 3, 255], [200, 0, 0, 0]]], np.uint8)
    images.write_image(tmp_path / "a.gif", images.Picture((frame, frame[:, ::-1]), durations_ms=(20, 30), loop=0))
    first, second = images.read_image(tmp_path / "a.gif").frames
    expected = np.array([[CLEAR, (9, 8, 7, 255), (1, 2, 3, 255), CLEAR]], np.uint8)
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(second, expected[:, ::-1])


def test_an_animation_is_never_too_long_for_its_format():
    """640 x 480, 80 frames, four times as large: 1.1 GiB of samples, 14 MiB a frame."""
    frames = (np.zeros((480, 640, 3), np.uint8),) * 80
    picture = images.Picture(frames, durations_ms=(50,) * 80, loop=0)
    for suffix in ("gif", "png", "webp", "avif"):
        _, path, notes = images.fit_format(picture, f"a.{suffix}", lambda height, width: (4 * height, 4 * width))
        assert (path.suffix, notes) == (f".{suffix}", [])


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_memory_does_not_grow_with_the_number_of_frames(suffix, tmp_path):
    shape, ramp = (96, 128, 3), np.add.outer(np.arange(96), np.arange(128)).astype(np.uint8)

    def peak(count):
        path, frames = tmp_path / f"{count}.{suffix}", (np.dstack([np.roll(ramp, index)] * 3) for index in range(count))
        picture = images.Picture((np.zeros(shape, np.uint8),) * count, durations_ms=(40,) * count, loop=0)
        tracemalloc.start()
        images.write_animation(path, frames, picture, shape[:2])
        assert sum(1 for _ in images.decode_image(path, stream=True).frames) == count
        _, largest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return largest

    peak(2)  # imports
    assert peak(100) - peak(10) < 10 * np.prod(shape)  # 90 frames more


@pytest.mark.parametrize("suffix", ["png", "gif", "webp", "avif"])
def test_durations_do_not_drift(suffix, tmp_path):
    """30 frames of 1/30 s take one second, whatever the unit in which the format counts."""
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    frames = tuple(np.full((16, 16, 1), 8 * index, np.uint8) for index in range(30))
    images.write_image(tmp_path / f"a.{suffix}", images.Picture(frames, durations_ms=(1000 / 30,) * 30, loop=2))
    after = images.read_image(tmp_path / f"a.{suffix}")
    assert abs(sum(after.durations_ms) - 1000) < 1e-6
    assert after.loop == (None if suffix == "avif" else 2)
    if suffix == "png":
        assert after.durations_ms == (1000 / 30,) * 30
        np.testing.assert_array_equal(np.stack(after.frames), np.stack(frames))


def test_an_animation_of_16_bits_stays_so(bilinear, tmp_path):
    frames = tuple(np.full((8, 8, 3), (300 * index, 20_000, 65_535), np.uint16) for index in range(3))
    images.write_image(tmp_path / "a.png", images.Picture(frames, durations_ms=(40,) * 3, loop=0))
    np.testing.assert_array_equal(np.stack(images.read_image(tmp_path / "a.png").frames), np.stack(frames))
    target, lines = _upscale(bilinear, tmp_path / "a.png")
    after = images.read_image(target)
    assert lines == [] and [frame.dtype for frame in after.frames] == [np.uint16] * 3
    assert np.abs(after.frames[2].astype(int) - frames[2][0, 0]).max() <= 1
    _, lines = _upscale(bilinear, tmp_path / "a.png", format="gif")
    assert len(lines) == 1 and "16 bits are rounded to 8" in lines[0]


def test_frames_are_decoded_one_at_a_time(bilinear, tmp_path, monkeypatch):
    """With a limit of 2,000 pixels: 20 frames of 1,024 pixels are read, because the limit holds for each."""
    frames = tuple(np.full((32, 32, 3), 10 * index, np.uint8) for index in range(20))
    images.write_image(tmp_path / "a.gif", images.Picture(frames, durations_ms=(40,) * 20, loop=0))
    target, _ = _upscale(bilinear, tmp_path / "a.gif", max_pixels=2000)
    assert len(images.read_image(target).frames) == 20
    with pytest.raises(images.ImageError, match="0.02048 megapixels, more than the limit of 0.002"):
        images.read_image(tmp_path / "a.gif", max_pixels=2000)


def test_a_damaged_frame_fails_before_anything_is_written(bilinear, tmp_path):
    red = np.full((8, 8, 4), RED, np.uint8)
    data = _apng([(red, 0, 0, 0, 0), (red, 0, 0, 0, 0), (red, 0, 0, 0, 0)], (8, 8))
    at = data.rindex(b"fdAT") + 12
    (tmp_path / "a.png").write_bytes(data[:at] + b"\xff" * 6 + data[at + 6 :])
    jobs = bulk.find_jobs([tmp_path / "a.png"], tmp_path / "out")
    summary = bulk.upscale_files(jobs, bilinear, bulk.target_size(2), tile_px=32)
    assert [path for path, _ in summary.failed] == [tmp_path / "a.png"]
    assert not list(tmp_path.glob("out/*"))


def test_avif_animations(bilinear, tmp_path):
    if not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    first, *rest = map(Image.fromarray, _moving_disc(4))
    first.save(tmp_path / "a.avif", save_all=True, append_images=rest, duration=[40, 60, 80, 100], quality=90)
    target, lines = _upscale(bilinear, tmp_path / "a.avif")
    after = images.read_image(target)
    assert lines == [] and after.durations_ms == (40, 60, 80, 100) and after.shape == (64, 64, 4)
    gray = tuple(np.full((16, 16, 1), 60 * index, np.uint8) for index in range(3))
    images.write_image(tmp_path / "gray.avif", images.Picture(gray, durations_ms=(50,) * 3))
    assert [round(frame.mean() / 60) for frame in images.read_image(tmp_path / "gray.avif").frames] == [0, 1, 2]


def test_webp_without_loss_stays_so(bilinear, tmp_path, photo):
    first, *rest = (Image.fromarray(np.roll(photo[:32, :32], 5 * index, 1)) for index in range(3))
    first.save(tmp_path / "still.webp", lossless=True)
    first.save(tmp_path / "moving.webp", save_all=True, append_images=rest, duration=50, lossless=True)
    first.save(tmp_path / "lossy.webp", quality=90)
    for name, expected in (("still", True), ("moving", True), ("lossy", False)):
        target, _ = _upscale(bilinear, tmp_path / f"{name}.webp")
        with open(target, "rb") as file:
            assert webp.is_lossless(file) == expected, name
    before = images.read_image(tmp_path / "moving.webp")
    images.write_image(tmp_path / "again.webp", before)
    np.testing.assert_array_equal(np.stack(images.read_image(tmp_path / "again.webp").frames), np.stack(before.frames))


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_metadata_of_animations(suffix, tmp_path, photo):
    exif = Image.Exif()
    exif[0x0110] = "Camera"
    from PIL import ImageCms

    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    before = images.Picture((photo[:9, :9], photo[9:18, :9]), icc=icc, exif=exif.tobytes(), durations_ms=(50, 50))
    images.write_image(tmp_path / f"a.{suffix}", before)
    with Image.open(tmp_path / f"a.{suffix}") as image:
        assert image.n_frames == 2 and image.info["icc_profile"] == icc and image.getexif()[0x0110] == "Camera"
