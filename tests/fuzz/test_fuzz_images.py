"""Fuzzing of images: damaged files of every format that is read, by the library and by `srgan-jax upscale`."""

import contextlib
import io
import os
import random
import signal
import struct
import zlib
from pathlib import Path

import harness
import numpy as np
import pytest
import tifffile
from harness import fuzz_in_worker, mutate, tries
from PIL import Image, features
from test_untrusted_images import PHOTO, dng

import srgan_jax
from srgan_jax import cli, images
from srgan_jax.images import sniff
from srgan_jax.runtime import extras

SMALL_PIXELS = 4_000_000  # a limit at which a try is short; the bounds of memory and time are lower in proportion
SIZES = (0, 1, 255, 4096, 32767, 65535, 2**24, 2**31 - 1, 2**32 - 1)


def _with_checksums(content: bytes) -> bytes:
    """Returns a PNG with the checksums that its chunks should have, so that what they hold is read."""
    data, at = bytearray(content), 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(data)


def damage(content, rng):
    """Returns a damaged image: half of the tries inflate sizes in the header, the others damage any part."""
    if rng.random() < 0.5:
        data = bytearray(content)
        for _ in range(rng.choice((1, 2, 4))):
            width, at = rng.choice((1, 2, 4)), rng.randrange(4, min(len(data), 512))
            data[at : at + width] = (rng.choice(SIZES) % 256**width).to_bytes(width, rng.choice(("little", "big")))
        content = bytes(data)
    else:
        content = mutate(content, rng)
    return _with_checksums(content) if content.startswith(b"\x89PNG") and rng.random() < 0.8 else content


def _psd() -> bytes:
    header = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, *PHOTO.shape[:2], 8, 3)
    return header + bytes(14) + np.moveaxis(PHOTO, -1, 0).tobytes()


def _samples(folder: Path) -> list[Path]:
    """Writes sound files: of every format that is read, and of further kinds of some."""
    folder.mkdir()
    photo = Image.fromarray(PHOTO)
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = {"save_all": True, "append_images": [Image.fromarray(PHOTO[::-1]), Image.fromarray(PHOTO[:, ::-1])]}
    kinds = {
        "a.png": {"exif": exif}, "animated.png": frames, "a.jpg": {"exif": exif}, "scans.jpg": {"progressive": True},
        "a.gif": {}, "animated.gif": frames, "a.webp": {}, "animated.webp": frames, "a.bmp": {}, "a.dib": {},
        "a.jp2": {}, "a.qoi": {}, "a.sgi": {}, "a.ppm": {}, "a.pcx": {}, "a.tga": {"compression": "tga_rle"},
        "a.tif": {"compression": "tiff_lzw"},
    }  # fmt: skip
    if features.check("avif"):
        kinds |= {"a.avif": {}, "animated.avif": frames}
    for name, options in kinds.items():
        photo.save(folder / name, **options)
    images.write_image(folder / "16bit.png", PHOTO.astype(np.uint16) * 257)
    (folder / "a.psd").write_bytes(_psd())
    images.write_image(folder / "a.jxl", images.Picture((PHOTO,), exif=exif.tobytes()))
    for name, options in {"big.tif": {"bigtiff": True}, "tiles.tif": {}}.items():
        with tifffile.TiffWriter(folder / name, **options) as writer:
            for _ in range(2):
                writer.write(PHOTO.astype(np.uint16), photometric="rgb", tile=(16, 16), compression="zlib")
    if not extras.missing("raw"):
        dng(folder / "a.dng")
    if not extras.missing("heic"):
        import pillow_heif

        pillow_heif.from_pillow(photo).save(folder / "a.heic")
    return sorted(folder.iterdir())


@pytest.fixture
def samples(tmp_path):
    return _samples(tmp_path / "samples")


def _read(path: Path, **limits) -> None:
    """Reads the size, then the pixels; both or neither must be refused, and sizes must agree."""
    size = None
    with contextlib.suppress(images.ImageError):
        size = images.image_size(path, **limits)
    picture = images.read_image(path, **limits)
    assert picture.frames and all(frame.size for frame in picture.frames)
    assert size is None or size == picture.shape[:2], f"image_size {size}, pixels {picture.shape}"


def read_with_small_limit(path: Path) -> None:
    _read(path, max_pixels=SMALL_PIXELS, max_seconds=20)


def read_with_default_limits(path: Path) -> None:
    _read(path)


def upscale(path: Path) -> None:
    """Upscales a file into an empty folder; asserts that nothing but images comes out, and nothing elsewhere."""
    out, folder = path.parent.parent / "out", path.parent.parent
    before = set(os.listdir(folder)) | {out.name}
    printed = io.StringIO()
    arguments = [path, "-o", out, "--weights", folder / "weights.safetensors", "--max-pixels", 100_000]
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        status = cli.main(["upscale", *map(str, arguments)])
    found = [file for file in out.rglob("*") if not file.name.startswith(".srgan_jax")] if out.exists() else []
    assert set(os.listdir(folder)) <= before, "files outside the output"
    assert status in (0, 1) and (status == 0) == bool(found), f"status {status}, {len(found)} files"
    assert "raceback" not in printed.getvalue(), printed.getvalue()[-300:]
    for file in found:
        images.read_image(file)
        file.unlink()
    for record in out.glob(".srgan_jax*"):
        record.unlink()


def _x_at_try_1(content, rng):
    """Returns "x" for the second try only, by the seed that the harness gives it."""
    return b"x" if rng.random() == random.Random("a 0 1").random() else content


def die(path: Path) -> None:
    if path.read_bytes()[:1] == b"x":
        os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.slow
def test_a_signal_is_counted_and_the_other_tries_are_done(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "TOTAL", harness.Counts())  # these aren't faults of the package
    (tmp_path / "a").write_bytes(bytes(8))
    counts = fuzz_in_worker([tmp_path / "a"], die, 3, seconds=5, most_bytes=1 << 30, change=_x_at_try_1)
    assert counts == {"accepted": 2, "a, try 1: the process ended with -11": 1}


def test_every_format_is_damaged(samples):
    absent = {"RAW": "raw", "HEIF": "heic"}
    expected = {kind.name for kind in sniff.KINDS if kind.name not in absent or not extras.missing(absent[kind.name])}
    assert {sniff.kind_of(file).name for file in samples} | (
        {"AVIF"} if not features.check("avif") else set()
    ) >= expected


@pytest.mark.slow
def test_images_with_a_small_limit(samples):
    counts = fuzz_in_worker(samples, read_with_small_limit, tries(60), seconds=8, most_bytes=384 << 20, change=damage)
    assert not counts.faults()
    assert counts["accepted"] and counts["refused"]


@pytest.mark.slow
def test_images_with_the_default_limits(samples):
    """No file takes more than 4 GiB or 60 s."""
    counts = fuzz_in_worker(
        samples, read_with_default_limits, tries(8), seed=1, seconds=60, most_bytes=4 << 30, change=damage
    )
    assert not counts.faults()


@pytest.mark.slow
def test_upscaling_of_damaged_images(samples, tmp_path, bilinear):
    srgan_jax.save(tmp_path / "weights.safetensors", bilinear)
    counts = fuzz_in_worker(samples, upscale, tries(3), seed=2, seconds=60, most_bytes=2 << 30, change=damage)
    assert not counts.faults()
