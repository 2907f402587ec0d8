"""Tests of JPEG XL. Truth: files that cjxl 0.7 wrote, imagecodecs' encoder, and the extra's decoder, pillow_jxl."""

import base64

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from srgan_jax import images
from srgan_jax.images.containers import jxl
from srgan_jax.runtime import extras

# 24 x 8, black and from column 8 on (200, 100, 50): cjxl -d 0 -x color_space=RGB_D65_DCI_Rel_SRG (P3), ...202_Rel_PeQ
# (PQ), ...SRG_Rel_g0.5 (a gamma, which has no code); "animated" from a GIF of two frames, the second turned by 180
# degrees.
FILES = {
    "p3": "/woBBAjI5EYIAgEAeABLGIsVANSMF2OM5F0gBADJwDeACALI2WJyxCNBcwA=",
    "pq": "/woBhAAC8ugRhwMAAABACAIBAHgASxiLFQDUjBdjjORdIAQAycA3gAgCyNlicsQjQXMA",
    "gamma": "/woBBAioQEtMEQgCAQB4AEsYixUA1IwXY4zkXSAEAMnAN4AIAsjZYnLEI0FzAA==",
    "animated": "/woBhCAAC4pLAggI4AEAAIQASxiLFQDUihdjjCIvIAKAgHkEAAIB5KxwfOGRt1OwGBw9CAjgQQAAnABLGIsVANRivBijqAvIAJCb"
    "GQAQqwE5K6AOChwLNIJ7SFapDyQsMAE=",
}
STRIPES = np.zeros((8, 24, 3), np.uint8)
STRIPES[:, 8:] = 200, 100, 50


@pytest.fixture
def small(photo):
    return np.ascontiguousarray(photo[60:100, 150:214])  # 40 x 64


@pytest.fixture
def cjxl(tmp_path):
    for name, content in FILES.items():
        (tmp_path / f"{name}.jxl").write_bytes(base64.b64decode(content))
    return tmp_path


def test_files_of_cjxl_are_read_with_their_colours(cjxl):
    p3, pq = (images.read_image(cjxl / f"{name}.jxl") for name in ("p3", "pq"))
    assert p3.color and p3.color.codes == (12, 13) and pq.color and pq.color.codes == (9, 16)
    np.testing.assert_array_equal(p3.frames[0], STRIPES)
    animated = images.read_image(cjxl / "animated.jxl")
    np.testing.assert_array_equal(animated.frames[0][..., :3], STRIPES)
    assert len(animated.frames) == 1 and animated.notes == ("animated JPEG XL: only the first image is upscaled",)
    # No format but PNG and AVIF states PQ, so the result is a PNG; that is known before the file is decoded.
    assert not images.can_state_colors(cjxl / "pq.jxl", "a.jxl", 10**6)
    assert images.can_state_colors(cjxl / "p3.jxl", "a.jxl", 10**6)


def test_a_colour_profile_needs_the_extra(cjxl, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(extras, "missing", lambda extra: ["pillow_jxl"])
        with pytest.raises(images.ImageError, match=r'JPEG XL with a colour profile: .*pip install "srgan-jax\[jxl\]"'):
            images.read_image(cjxl / "gamma.jxl")
    pytest.importorskip("pillow_jxl", reason='pip install "srgan-jax[jxl]"')
    icc = images.read_image(cjxl / "gamma.jxl").icc
    assert icc is not None
    # 0.5 of the range is 0.25 of the light with this gamma of 1 / 0.5, which is 137 in sRGB, of 255 (IEC 61966-2-1).
    half = np.full((1, 1, 3), 128, np.uint8)
    converted = imagecodecs.cms_transform(
        half, icc, imagecodecs.cms_profile("srgb"), colorspace="rgb", outcolorspace="rgb"
    )
    assert np.abs(converted.astype(int) - 137).max() <= 1


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [4, 8, 10, 16, "float16"])
def test_channels_and_bits(small, tmp_path, channels, bits):
    frame = np.concatenate([small, 255 - small[..., :1]], axis=-1)[..., [0, 3] if channels == 2 else range(channels)]
    if bits == "float16":
        samples, expected = (frame / 255).astype(np.float16), frame.astype(np.uint16) * 257
    else:
        largest = 2**bits - 1
        samples = (frame.astype(np.uint32) * largest // 255).astype(np.uint8 if bits <= 8 else np.uint16)
        expected = samples / largest * (255 if bits <= 8 else 65535)
    options = {"bitspersample": bits} if bits in (4, 10) else {}
    path = tmp_path / "a.jxl"
    path.write_bytes(imagecodecs.jpegxl_encode(samples[..., 0] if channels == 1 else samples, lossless=True, **options))
    picture = images.read_image(path)
    assert picture.frames[0].dtype == (np.uint8 if bits in (4, 8) else np.uint16)
    assert np.abs(picture.frames[0].astype(float) - expected).max() <= (
        17 if bits == "float16" else 1
    )  # half of 2^-11, of 65535
    assert picture.lossless and images.image_size(path) == (40, 64) == picture.shape[:2]


@pytest.mark.parametrize(
    "size", [(1, 1), (8, 8), (16, 256), (300, 200), (200, 300), (480, 640), (108, 192), (1, 70000)]
)
def test_sizes_in_every_coding(size, tmp_path):
    (tmp_path / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(np.zeros(size, np.uint8), lossless=True, effort=1))
    assert images.image_size(tmp_path / "a.jxl") == size


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_is_written_is_read_by_another_decoder(small, tmp_path, dtype):
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x3b\0\x02\0\0\0\x04Zoe\0\0\0\0\0"  # Artist
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
    frame = small.astype(dtype) * dtype(257 if dtype == np.uint16 else 1)
    images.write_image(tmp_path / "a.jxl", images.Picture((frame,), exif=exif, xmp=xmp), quality=100)
    again = images.read_image(tmp_path / "a.jxl")
    np.testing.assert_array_equal(again.frames[0], frame)
    assert again.xmp == xmp and again.exif and again.exif.endswith(exif)
    assert again.color is None and again.icc is None  # sRGB
    images.write_image(tmp_path / "lossy.jxl", frame)
    lossy = images.read_image(tmp_path / "lossy.jxl")
    assert np.abs(lossy.frames[0].astype(float) - frame).mean() < 0.01 * np.iinfo(dtype).max and lossy.color is None
    assert (tmp_path / "lossy.jxl").stat().st_size < (tmp_path / "a.jxl").stat().st_size / 2
    pytest.importorskip("pillow_jxl", reason='pip install "srgan-jax[jxl]"')
    with Image.open(tmp_path / "a.jxl") as image:
        assert image.getexif()[0x013B] == "Zoe" and image.size == (64, 40)
        if dtype == np.uint8:
            np.testing.assert_array_equal(np.asarray(image), frame)


def test_limits_are_applied_before_decoding(small, tmp_path, monkeypatch):
    path = tmp_path / "a.jxl"
    path.write_bytes(imagecodecs.jpegxl_encode(small, lossless=True))
    monkeypatch.setattr(imagecodecs, "jpegxl_decode", None)  # a call would be an error of another kind
    with pytest.raises(images.ImageError, match="more than the limit"):
        images.read_image(path, max_pixels=2000)


def test_damaged_files_are_refused(small, tmp_path):
    data = bytes(imagecodecs.jpegxl_encode(small, lossless=True))
    cuts = [data[:2], data[:5], data[:40], data[: len(data) // 2], jxl.SIGNATURE, jxl.SIGNATURE + jxl.FILE_TYPE]
    for cut in cuts:
        (tmp_path / "a.jxl").write_bytes(cut)
        with pytest.raises(images.ImageError, match="damaged JPEG XL"):
            images.read_image(tmp_path / "a.jxl")


def test_a_size_that_the_decoder_reads_otherwise_is_refused(tmp_path):
    """Two code streams in one file: the header is read of one of them, and its size is that of the decoder's array."""
    small, large = (
        bytes(imagecodecs.jpegxl_encode(np.zeros((side, side, 3), np.uint8), lossless=True)) for side in (8, 64)
    )
    for first, second in ((small, large), (large, small)):
        boxes = b"".join((8 + len(part)).to_bytes(4, "big") + b"jxlc" + part for part in (first, second))
        (tmp_path / "a.jxl").write_bytes(jxl.SIGNATURE + jxl.FILE_TYPE + boxes)
        try:
            assert images.read_image(tmp_path / "a.jxl").shape[:2] == images.image_size(tmp_path / "a.jxl")
        except images.ImageError as error:
            assert "damaged JPEG XL" in str(error)
