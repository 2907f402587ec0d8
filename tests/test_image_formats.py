"""Tests of image formats: each row of the tables of inputs and results in docs/upscaling.md."""

import collections
import re
import struct
import zlib
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, TiffImagePlugin, features

from srgan_jax import bulk, images
from srgan_jax.images.containers import webp
from srgan_jax.images.metadata import png_chunks

PAGE = Path(__file__).parents[1] / "docs" / "upscaling.md"
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="module")
def upscale(bilinear):
    """A function that upscales one file by 2; returns the result's path and the reported lines."""

    def run(path, out=None, format="", **options):
        lines = []
        jobs = bulk.find_jobs([path], out or path.parent / "out", format=format)
        size_of = options.pop("size_of", bulk.target_size(2))
        summary = bulk.upscale_files(jobs, bilinear, size_of, tile_px=32, report=lines.append, **options)
        assert summary.failed == [], summary.failed
        return summary.done[0].target, lines

    return run


def _small_image(photo, channels=3):
    return np.ascontiguousarray(photo[60:100, 150:214, :channels])  # 40 x 64


def _bilinear_x2(samples):
    """Returns `[H, W]` upscaled by 2, bilinearly by Pillow, in floats."""
    height, width = samples.shape
    image = Image.fromarray(samples.astype(np.float32))
    return np.asarray(image.resize((2 * width, 2 * height), Image.Resampling.BILINEAR))


def _assert_x2(result, before, tolerance=1.0):
    before = before if before.ndim == 3 else before[..., None]
    result = result if result.ndim == 3 else result[..., None]
    expected = np.stack([_bilinear_x2(before[..., c]) for c in range(before.shape[-1])], axis=-1)
    assert result.shape == expected.shape
    assert np.abs(result - expected).max() <= tolerance


def jpeg(upscale, photo, folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # viewers rotate it clockwise
    exif[0x0110] = "Camera"
    path = folder / "a.jpg"
    Image.fromarray(_small_image(photo)).save(
        path, quality=100, subsampling=0, exif=exif, icc_profile=SRGB, dpi=(300, 300)
    )
    target, _ = upscale(path)
    with Image.open(target) as result:
        assert result.format == "JPEG" and result.size == (80, 128)
        assert [layer[1:3] for layer in result.layer] == [(1, 1)] * 3  # 4:4:4
        assert result.getexif().get(0x0112, 1) == 1 and result.getexif()[0x0110] == "Camera"
        assert result.info["icc_profile"] == SRGB and result.info["dpi"] == (300, 300)
        _assert_x2(np.asarray(result), np.rot90(_small_image(photo), -1), tolerance=24)  # two JPEG compressions
    target, _ = upscale(path, folder / "stripped.jpg", strip=True)
    with Image.open(target) as result:
        assert len(result.getexif()) == 0 and "icc_profile" not in result.info and result.info.get("dpi") != (300, 300)
        assert result.size == (80, 128)  # rotated nevertheless


def same_format(upscale, photo, folder):
    for suffix in ("png", "webp", "bmp", "tga", "ppm", "tif", "jp2"):
        path = folder / f"a.{suffix}"
        Image.fromarray(_small_image(photo)).save(path, **({"lossless": True} if suffix == "webp" else {}))
        target, _ = upscale(path, quality=100)
        assert target.name == path.name
        with Image.open(target) as result:
            assert result.mode == "RGB"
            _assert_x2(np.asarray(result), _small_image(photo), tolerance=3 if suffix == "jp2" else 1)


def other_formats(upscale, photo, folder):
    for suffix in ("gif", "qoi", "sgi", "pcx"):
        image = Image.fromarray(_small_image(photo))
        image = image.quantize(16, dither=Image.Dither.NONE) if suffix == "gif" else image
        image.save(folder / f"{suffix}.{suffix}")
        target, _ = upscale(folder / f"{suffix}.{suffix}")
        with Image.open(target) as result:
            assert (target.name, result.format) == (f"{suffix}.png", "PNG")
            _assert_x2(np.asarray(result), np.asarray(image.convert("RGB")))


def metadata(upscale, photo, folder):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8769)[0x829A] = 0.5  # exposure time
    exif.get_ifd(0x8825)[2] = (50.0, 30.5, 12.25)  # latitude
    for suffix in ("png", "webp", "tif"):
        path = folder / f"a.{suffix}"
        Image.fromarray(_small_image(photo)).save(path, exif=exif.tobytes(), icc_profile=SRGB, dpi=(300, 300))
        target, _ = upscale(path)
        with Image.open(target) as result:
            assert result.info["icc_profile"] == SRGB
            assert result.getexif()[0x010F] == "Maker"
            if suffix != "webp":
                assert round(result.info["dpi"][0]) == 300
            assert result.getexif().get_ifd(0x8769)[0x829A] == 0.5
            assert result.getexif().get_ifd(0x8825)[2] == (50.0, 30.5, 12.25)


def exif_in_place(upscale, photo, folder):
    exif = Image.Exif()
    exif[0x013B], exif[0x0112] = "Zoe", 6
    exif.get_ifd(0x8769).update({0x927C: b"maker's note", 0xA002: 64, 0xA003: 40})
    Image.fromarray(_small_image(photo)).save(folder / "a.jpg", exif=exif)
    target, lines = upscale(folder / "a.jpg")
    with Image.open(target) as result, Image.open(folder / "a.jpg") as source:
        after, before = result.info["exif"], source.info["exif"]
        assert lines == [] and len(after) == len(before)
        changed = [place for place, pair in enumerate(zip(after, before, strict=True)) if pair[0] != pair[1]]
        assert len(changed) <= 5  # orientation, width, height
        assert dict(result.getexif().get_ifd(0x8769)) == {0x927C: b"maker's note", 0xA002: 80, 0xA003: 128}
    assert "MakerNote" in upscale(folder / "a.jpg", format="tif")[1][0]


def descriptions(upscale, photo, folder):
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "a tree, Seed: 1")
    xmp = '<x:xmpmeta><rdf:Description tiff:Orientation="1" exif:PixelXDimension="64" xmp:Rating="5"/></x:xmpmeta>'
    text.add_itxt("XML:com.adobe.xmp", xmp)
    Image.fromarray(_small_image(photo)).save(folder / "a.png", pnginfo=text)
    target, lines = upscale(folder / "a.png")
    with Image.open(target) as result:
        result.load()
        assert lines == [] and result.info["parameters"] == "a tree, Seed: 1"
        assert result.info["XML:com.adobe.xmp"] == xmp.replace("64", "128")
    target, lines = upscale(folder / "a.png", format="jpg")
    assert lines == [f"{folder / 'a.png'}: .jpg can't hold PNG text (parameters): not copied"]
    with Image.open(target) as result:
        assert result.info["xmp"] == xmp.replace("64", "128").encode()


def geotiff(upscale, photo, folder):
    import tifffile

    tags = [(33550, 12, 3, (10.0, 10.0, 0.0), True), (33922, 12, 6, (0.0, 0.0, 0.0, 500.0, 900.0, 0.0), True)]
    tags.append((34735, 3, 8, (1, 1, 0, 1, 1025, 0, 1, 1), True))  # PixelIsArea
    tifffile.imwrite(folder / "a.tif", _small_image(photo), photometric="rgb", extratags=tags)
    target, _ = upscale(folder / "a.tif")
    with tifffile.TiffFile(target) as tiff:
        assert tiff.geotiff_metadata["ModelPixelScale"] == [5.0, 5.0, 0.0]
        assert tiff.geotiff_metadata["ModelTiepoint"] == [0.0, 0.0, 0.0, 500.0, 900.0, 0.0]


def _png_with(path, image, kind, data):
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(buffer.getvalue()[:33] + chunk + buffer.getvalue()[33:])
    return chunk


def stated_colours(upscale, photo, folder):
    chunk = _png_with(folder / "a.png", _small_image(photo), b"gAMA", struct.pack(">I", 100_000))
    target, lines = upscale(folder / "a.png")
    assert chunk in target.read_bytes() and lines == []
    for suffix in ("jpg", "webp", "tif", "jp2"):
        target, lines = upscale(folder / "a.png", format=suffix)
        assert images.read_image(target).icc and "written as a colour profile" in lines[0], suffix


def converted_colours(upscale, photo, folder):
    flat = np.full((8, 8, 3), 100, np.uint8)
    _png_with(folder / "a.png", flat, b"gAMA", struct.pack(">I", 100_000))
    for suffix in ("bmp", "tga", "ppm"):
        target, lines = upscale(folder / "a.png", format=suffix)
        assert "colours are converted to sRGB" in lines[0]
        # 100 / 255 of the light of white is 1.055 * 0.392 ** (1 / 2.4) - 0.055 = 0.660 in sRGB
        np.testing.assert_allclose(images.read_image(target).frames[0], 168, atol=1)


def hdr(upscale, photo, folder):
    chunk = _png_with(folder / "a.png", _small_image(photo), b"cICP", bytes((9, 16, 0, 1)))
    target, lines = upscale(folder / "a.png", format="jpg")
    assert target.name == "a.png" and chunk in target.read_bytes() and "(HDR, PQ): written as .png" in lines[0]
    if features.check("avif"):
        target, lines = upscale(folder / "a.png", format="avif")
        assert lines == [] and b"nclx\0\x09\0\x10" in target.read_bytes()
    xmp = b'<x hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"/>'
    Image.fromarray(_small_image(photo)).save(folder / "b.jpg", xmp=xmp)
    assert "the gain map (HDR) is not copied" in upscale(folder / "b.jpg")[1][0]


def floats(upscale, photo, folder):
    import tifffile

    for bits in (2, 4, 8):
        values = (_small_image(photo) / 255).astype(f"f{bits}")
        tifffile.imwrite(folder / "a.tif", values, photometric="rgb")
        target, _ = upscale(folder / "a.tif", overwrite=True)
        _assert_x2(tifffile.imread(target), values.astype(np.float64) * 65535, tolerance=1.5)


def gray(upscale, photo, folder):
    path = folder / "a.png"
    Image.fromarray(_small_image(photo)[..., 0]).save(path)
    target, _ = upscale(path)
    with Image.open(target) as result:
        assert result.mode == "L"
        _assert_x2(np.asarray(result), _small_image(photo)[..., 0])


def one_bit(upscale, photo, folder):
    path = folder / "a.png"
    bits = _small_image(photo)[..., 0] > 128
    Image.fromarray(bits).save(path)
    target, _ = upscale(path)
    with Image.open(target) as result:
        assert result.mode == "L"
        _assert_x2(np.asarray(result), bits * 255.0)


def palette(upscale, photo, folder):
    path = folder / "a.png"
    indexed = Image.fromarray(_small_image(photo)).quantize(16)
    indexed.save(path)
    target, _ = upscale(path)
    with Image.open(target) as result:
        assert result.mode == "RGB"
        _assert_x2(np.asarray(result), np.asarray(indexed.convert("RGB")))
    path = folder / "gray.gif"
    Image.fromarray(_small_image(photo)[..., 0]).save(path)
    target, _ = upscale(path)
    assert target.name == "gray.png"
    with Image.open(target) as result:
        assert result.mode == "L"


def alpha(upscale, photo, folder):
    image = np.dstack([_small_image(photo), np.full((40, 64), 255, np.uint8)])
    image[:, :32] = (0, 255, 0, 0)
    Image.fromarray(image).save(folder / "a.png")
    target, _ = upscale(folder / "a.png")
    with Image.open(target) as result:
        assert result.mode == "RGBA"
        sr = np.asarray(result)
    assert (sr[:, :62, 3] == 0).all() and (sr[:, 66:, 3] == 255).all()
    np.testing.assert_allclose(sr[2:-2, 68:-2, :3], _expected_opaque_part(photo), atol=1)
    indexed = Image.fromarray(_small_image(photo)).quantize(8)
    indexed.save(folder / "keyed.png", transparency=0)
    target, _ = upscale(folder / "keyed.png")
    with Image.open(target) as result:
        assert result.mode == "RGBA" and 0 in np.asarray(result)[..., 3] and 255 in np.asarray(result)[..., 3]


def _expected_opaque_part(photo):
    whole = np.stack([_bilinear_x2(_small_image(photo)[..., c]) for c in range(3)], axis=-1)
    return whole[2:-2, 68:-2]


def opaque_alpha(upscale, photo, folder):
    Image.fromarray(_small_image(photo)).convert("RGBA").save(folder / "a.png")
    target, _ = upscale(folder / "a.png")
    with Image.open(target) as result:
        assert result.mode == "RGBA" and (np.asarray(result)[..., 3] == 255).all()
    target, _ = upscale(folder / "a.png", folder / "b.png", drop_opaque_alpha=True)
    with Image.open(target) as result:
        assert result.mode == "RGB"
        _assert_x2(np.asarray(result), _small_image(photo))


def _image_16_bit(photo, channels):
    rng = np.random.default_rng(0)
    deep = np.clip(_small_image(photo).astype(int) * 257 + rng.integers(-90, 90, (40, 64, 3)), 0, 65535)
    deep = np.dstack([deep, rng.integers(40_000, 65_536, (40, 64), np.uint16)])
    chosen = {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]
    return np.ascontiguousarray(deep.astype(np.uint16)[..., chosen])


def deep(upscale, photo, folder):
    import imagecodecs
    import tifffile

    for channels in (1, 3, 4, 2):
        before = _image_16_bit(photo, channels)
        plain = before[..., 0] if channels == 1 else before
        (folder / f"{channels}.png").write_bytes(imagecodecs.png_encode(plain))
        alpha = {"extrasamples": ["unassalpha"]} if channels in (2, 4) else {}
        photometric = "rgb" if channels > 2 else "minisblack"
        tifffile.imwrite(folder / f"{channels}.tif", plain, photometric=photometric, planarconfig="contig", **alpha)
        for suffix in ("png", "tif"):
            target, lines = upscale(folder / f"{channels}.{suffix}")
            read = imagecodecs.png_decode(target.read_bytes()) if suffix == "png" else tifffile.imread(target)
            assert read.dtype == np.uint16 and lines == []
            colours = channels - (channels in (2, 4))
            read = read if read.ndim == 3 else read[..., None]
            assert read.shape == (80, 128, channels)
            assert (read[..., :colours] % 257 != 0).any()  # more than 8 bits
            if colours == channels:
                _assert_x2(read, before)
            else:  # the network gets colours times alpha, and alpha; the colours are divided by alpha afterwards
                alpha = before[..., -1].astype(np.float64)
                _assert_x2(read[..., -1], alpha)
                for c in range(colours):
                    expected = _bilinear_x2(before[..., c] * alpha) / _bilinear_x2(alpha)
                    assert np.abs(read[..., c] - expected).max() <= 1.0, c
            if channels != 2 or suffix == "png":  # Pillow can't read 16-bit gray with alpha from TIFF
                with Image.open(target) as result:
                    assert result.size == (128, 80)

    for suffix, channels in (("jp2", 3), ("ppm", 3), ("pgm", 1)):
        before = _image_16_bit(photo, channels)
        images.write_image(folder / f"b.{suffix}", before)
        target, lines = upscale(folder / f"b.{suffix}")
        assert lines == []
        _assert_x2(images.read_image(target).frames[0], before)


def cmyk(upscale, photo, folder):
    separated = Image.fromarray(_small_image(photo)).convert("CMYK")
    separated.save(folder / "a.jpg", quality=100, subsampling=0)
    target, _ = upscale(folder / "a.jpg")
    with Image.open(target) as result:
        assert result.mode == "RGB"
        _assert_x2(np.asarray(result), _small_image(photo), tolerance=24)


def animation(upscale, photo, folder):
    frames = [Image.fromarray(_small_image(np.roll(photo, 9 * i, axis=1))) for i in range(3)]
    for suffix, tolerance in (("gif", 10), ("webp", 2), ("png", 0.3), ("avif", 3)):
        if suffix == "avif" and not features.check("avif"):
            continue
        options = {"lossless": True} if suffix == "webp" else {}
        path = folder / f"a.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=[100, 200, 300], loop=3, **options)
        target, _ = upscale(path)
        assert target.name == path.name
        before, after = images.read_image(path), images.read_image(target)
        assert len(after.frames) == 3 and after.durations_ms == (100, 200, 300)
        assert after.loop == before.loop == {"avif": None, "gif": 4}.get(suffix, 3)  # a GIF: once, and 3 times more
        for old, new in zip(before.frames, after.frames, strict=True):
            expected = np.stack([_bilinear_x2(old[..., c]) for c in range(3)], axis=-1)
            assert np.abs(new[..., :3] - expected).mean() < tolerance


def lossless_webp(upscale, photo, folder):
    Image.fromarray(_small_image(photo)).save(folder / "a.webp", lossless=True)
    target, _ = upscale(folder / "a.webp")
    with open(target, "rb") as file:
        assert webp.is_lossless(file)


def mpo(upscale, photo, folder):
    first, second = (Image.fromarray(photo[top : top + 24, :32]) for top in (0, 24))
    first.save(folder / "a.jpg", "MPO", save_all=True, append_images=[second])
    target, lines = upscale(folder / "a.jpg")
    assert len(lines) == 1 and "holds 2 images: only the first is upscaled" in lines[0]
    assert target.name == "a.jpg" and images.read_image(target).shape == (48, 64, 3)


def pages(upscale, photo, folder):
    first, second = _small_image(photo), _small_image(photo)[:20, :30]
    images.write_image(folder / "a.tif", images.Picture((first, second)))
    assert [frame.shape for frame in images.read_image(folder / "a.tif").frames] == [(40, 64, 3), (20, 30, 3)]
    target, _ = upscale(folder / "a.tif")
    after = images.read_image(target)
    assert after.durations_ms == ()
    target, lines = upscale(folder / "a.tif", format="png")
    assert "supports one image: only the first of 2" in lines[0] and images.read_image(target).shape == (80, 128, 3)
    mixed = images.Picture((np.full((9, 9, 4), 255, np.uint8), np.zeros((5, 7, 1), np.uint8)))
    images.write_image(folder / "mixed.tif", mixed)
    target, _ = upscale(folder / "mixed.tif", drop_opaque_alpha=True)
    assert [frame.shape for frame in images.read_image(target).frames] == [(18, 18, 4), (10, 14, 1)]
    after = images.read_image(folder / "out" / "a.tif")
    for old, new in zip((first, second), after.frames, strict=True):
        _assert_x2(new, old)


def heic(upscale, photo, folder):
    pillow_heif = pytest.importorskip("pillow_heif", reason='pip install "srgan-jax[heic]"')
    pillow_heif.from_pillow(Image.fromarray(_small_image(photo))).save(folder / "a.heic", quality=95)
    target, _ = upscale(folder / "a.heic")
    assert target.name == "a.jpg"
    with Image.open(target) as result:
        assert np.abs(np.asarray(result)[::2, ::2].astype(int) - _small_image(photo)).mean() < 12


def avif(upscale, photo, folder):
    if not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    Image.fromarray(_small_image(photo)).save(folder / "a.avif", quality=95)
    target, _ = upscale(folder / "a.avif")
    assert target.name == "a.avif" and images.read_image(target).shape == (80, 128, 3)


def what_a_format_cannot_hold(upscale, photo, folder):
    wide = np.tile(_small_image(photo)[:4], (1, 130, 1))  # 8,320 pixels, 16,640 upscaled: more than WebP allows
    Image.fromarray(wide).save(folder / "wide.webp", lossless=True)
    target, lines = upscale(folder / "wide.webp")
    assert target.name == "wide.png" and images.read_image(target).shape == (8, 16_640, 3)
    assert len(lines) == 1 and "16640 x 8 pixels is too large for .webp: written as .png" in lines[0]
    images.write_image(folder / "deep.png", images.Picture((_image_16_bit(photo, 4),)))
    target, lines = upscale(folder / "deep.png", format="jpg")
    assert images.read_image(target).frames[0].shape == (80, 128, 3)
    assert "supports 8 bits: 16 bits are rounded" in lines[0] and "composited on white" in lines[1]
    Image.fromarray(np.zeros((8, 8, 4), np.uint8)).save(folder / "clear.png")
    target, _ = upscale(folder / "clear.png", format="jpg")
    assert images.read_image(target).frames[0].min() >= 254


def tiff_extras(upscale, photo, folder):
    with tifffile.TiffWriter(folder / "a.tif") as tiff:
        tiff.write(_small_image(photo), photometric="rgb", metadata=None)
        tiff.write(_small_image(photo)[::2, ::2].copy(), photometric="rgb", subfiletype=1, metadata=None)
    target, lines = upscale(folder / "a.tif")
    assert [frame.shape for frame in images.read_image(target).frames] == [(80, 128, 3)]
    assert "left out: 1 of 2 directories, overviews, thumbnails or masks" in lines[0]


def tiff_bands(upscale, photo, folder):
    samples = np.dstack([_small_image(photo)] * 2)
    tifffile.imwrite(folder / "a.tif", samples, photometric="rgb", extrasamples=["unspecified"] * 3, metadata=None)
    with pytest.raises(images.ImageError, match="TIFF of 6 bands, of which 3 are neither colour nor alpha"):
        images.read_image(folder / "a.tif")


def camera_raw(upscale, photo, folder):
    pytest.importorskip("rawpy", reason='pip install "srgan-jax[raw]"')
    tags = [(50706, "B", 4, (1, 4, 0, 0), True), (33421, "H", 2, (2, 2), True), (33422, "B", 4, (0, 1, 1, 2), True)]
    samples = _small_image(photo)[..., 1].astype(np.uint16) << 6
    tifffile.imwrite(folder / "a.dng", samples, photometric="cfa", extratags=tags, metadata=None)
    target, _ = upscale(folder / "a.dng")
    frame = images.read_image(target).frames[0]
    assert target.name == "a.png" and frame.shape == (80, 128, 3) and frame.dtype == np.uint16


def psd(upscale, photo, folder):
    small = _small_image(photo)
    header = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, *small.shape[:2], 8, 3) + bytes(14)
    (folder / "a.psd").write_bytes(header + np.moveaxis(small, -1, 0).tobytes())
    target, _ = upscale(folder / "a.psd")
    assert target.name == "a.png" and images.read_image(target).shape == (80, 128, 3)


def damaged(upscale, photo, folder):
    Image.fromarray(_small_image(photo)).save(folder / "a.jpg")
    (folder / "a.jpg").write_bytes((folder / "a.jpg").read_bytes()[:-2])
    target, lines = upscale(folder / "a.jpg")
    assert target.name == "a.jpg" and "JPEG without its end: read, as viewers do" in lines[0]


def adobe_rgb(upscale, photo, folder):
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({0xA001: 0xFFFF, 0xA005: {1: "R03"}})
    Image.new("RGB", (16, 16), (200, 100, 50)).save(folder / "a.jpg", quality=100, exif=exif)
    target, lines = upscale(folder / "a.jpg")
    assert "written as a colour profile" in lines[0]
    with Image.open(target) as result:
        profile = ImageCms.ImageCmsProfile(BytesIO(result.info["icc_profile"]))
        shown = ImageCms.profileToProfile(result, profile, ImageCms.createProfile("sRGB"))
    # Adobe RGB (1998): light 200 -> 0.586, 100 -> 0.128, 50 -> 0.0278 (gamma 563 / 256). Red in sRGB is
    # 1.398 R - 0.398 G = 0.768, which is 226 of 255; green is G, 100; blue is 1.043 B - 0.043 G = 0.0235, 42.
    assert np.abs(np.asarray(shown)[8, 8].astype(int) - (226, 100, 42)).max() <= 2


def jpeg_xl(upscale, photo, folder):
    for dtype in (np.uint8, np.uint16):
        small = _small_image(photo).astype(dtype) * dtype(257 if dtype == np.uint16 else 1)
        images.write_image(folder / "a.jxl", small, quality=100)
        target, lines = upscale(folder / "a.jxl", overwrite=True)
        assert target.name == "a.jxl" and not lines
        result = imagecodecs.jpegxl_decode(target.read_bytes())
        assert result.dtype == dtype
        _assert_x2(result, small, tolerance=257 if dtype == np.uint16 else 1)
    (folder / "b.jxl").write_bytes(imagecodecs.jpegxl_encode(_small_image(photo), distance=1))
    assert upscale(folder / "b.jxl")[0].stat().st_size < target.stat().st_size / 2  # lossy again


ROWS = {
    "JPEG": jpeg,
    "PNG, WebP, BMP, TGA, PPM, TIFF, JPEG 2000": same_format,
    "still GIF, QOI, SGI, PCX": other_formats,
    "lossless WebP": lossless_webp,
    "JPEG XL": jpeg_xl,
    "HEIC": heic,
    "AVIF": avif,
    "PSD": psd,
    "camera raw (DNG, NEF, CR2, ARW, ...)": camera_raw,
    "animated GIF, WebP, PNG, AVIF": animation,
    "MPO": mpo,
    "TIFF of several pages": pages,
    "TIFF with overviews, thumbnails or masks": tiff_extras,
    "TIFF of bands that are neither colour nor alpha": tiff_bands,
    "gray": gray,
    "1 bit": one_bit,
    "palette": palette,
    "16 bits (PNG, TIFF, JPEG 2000, PPM)": deep,
    "TIFF of floats in [0, 1], 16 to 64 bits": floats,
    "transparency": alpha,
    "alpha that is opaque everywhere": opaque_alpha,
    "JPEG without its last bytes, PNG with damaged text": damaged,
    "content that the format of the result can't hold": what_a_format_cannot_hold,
    "CMYK, Lab": cmyk,
    "Adobe RGB that only EXIF states; a BMP with a profile": adobe_rgb,
    "colours stated by gAMA, cHRM, cICP (PNG) or nclx (AVIF, HEIC)": stated_colours,
    "colours other than sRGB, if the result is BMP, TGA, PPM, GIF or JPEG XL": converted_colours,
    "HDR: PQ and HLG": hdr,
    "colour profile, EXIF, resolution": metadata,
    "EXIF": exif_in_place,
    "XMP, IPTC, comments, text of PNG": descriptions,
    "GeoTIFF": geotiff,
}


@pytest.mark.parametrize("row", ROWS)
def test_row_of_the_tables(row, upscale, photo, tmp_path):
    ROWS[row](upscale, photo, tmp_path)


def test_16_bits_with_profile_and_resolution(upscale, photo, tmp_path):
    import imagecodecs

    image = images.Picture((_image_16_bit(photo, 3),), icc=SRGB, dpi=(300.0, 300.0))
    images.write_image(tmp_path / "a.png", image)
    images.write_image(tmp_path / "a.tif", image)
    for name in ("a.png", "a.tif"):
        np.testing.assert_array_equal(images.read_image(tmp_path / name).frames[0], image.frames[0])
        target, _ = upscale(tmp_path / name)
        with Image.open(target) as result:
            assert result.info["icc_profile"] == SRGB and round(result.info["dpi"][0]) == 300
    assert imagecodecs.png_decode((tmp_path / "out" / "a.png").read_bytes()).dtype == np.uint16


def test_every_row_of_the_tables_is_tested():
    tables = [part.split("\n\n")[0] for part in PAGE.read_text().split("| input | result |")[1:]]
    rows = [line.split("|")[1].strip() for table in tables for line in table.splitlines()[2:]]
    assert rows == list(ROWS)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_every_format(orientation, suffix, tmp_path, photo):
    """For TIFF also gray images and images with alpha."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    whole = Image.fromarray(_small_image(photo))
    kinds = {"rgb": whole} | ({"gray": whole.convert("L"), "rgba": whole.convert("RGBA")} if suffix == "tif" else {})
    for name, image in kinds.items():
        path = tmp_path / f"{name}.{suffix}"
        image.save(path, exif=exif, **({"quality": 100, "subsampling": 0} if suffix == "jpg" else {}))
        read = images.read_image(path).frames[0]
        assert images.image_size(path) == read.shape[:2] == ((40, 64) if orientation < 5 else (64, 40))
        expected = np.asarray(ImageOps.exif_transpose(_with_orientation(image, orientation)))
        difference = np.abs(read.squeeze().astype(int) - expected)
        assert difference.mean() < (5 if suffix == "webp" else 2 if suffix == "jpg" else 0.01), name
        if name != "rgba":  # decode_rgb composites on white
            same = read if read.shape[-1] == 3 else np.repeat(read, 3, axis=-1)
            np.testing.assert_array_equal(images.decode_rgb(path), same, err_msg=name)


def _with_orientation(image, orientation):
    image = image.copy()
    image.getexif()[0x0112] = orientation
    return image


def test_rare_16_bit_and_float_tiffs(tmp_path):
    import tifffile

    ramp = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    deep = np.floor(ramp * 65535 + 0.5).astype(np.uint16)
    kinds = {
        "float32": (ramp, {}),
        "float64": (ramp.astype(np.float64), {}),
        "uint32": (deep.astype(np.uint32) << 16, {}),
        "white": (65535 - deep, {"photometric": "miniswhite"}),
        "big_endian": (deep, {"byteorder": ">"}),
        "rgb_float": (np.stack([ramp] * 3, -1), {"photometric": "rgb"}),
    }
    for name, (samples, options) in kinds.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", samples, **{"photometric": "minisblack", **options})
        read = images.read_image(tmp_path / f"{name}.tif").frames[0]
        assert read.dtype == np.uint16 and read.shape == (3, 4, 3 if name == "rgb_float" else 1), name
        np.testing.assert_array_equal(read[..., 0], deep, err_msg=name)
        assert images.image_size(tmp_path / f"{name}.tif") == (3, 4)
    tifffile.imwrite(tmp_path / "hdr.tif", ramp * 7)
    with pytest.raises(images.ImageError, match="or floats in"):
        images.read_image(tmp_path / "hdr.tif")


@pytest.mark.parametrize("total_bytes", [0, 4_000_000_000], ids=["tiff", "bigtiff"])
def test_every_page_of_a_tiff_points_to_the_exif(tmp_path, photo, total_bytes):
    """Pillow and tifffile read it there; the pixels are unchanged."""
    import tifffile

    exif = Image.Exif()
    exif[0x0110] = "Camera"
    exif.get_ifd(0x8769).update({0x9003: "2020:01:02 03:04:05", 0x8827: 200, 0x927C: b"odd"})
    exif.get_ifd(0x8825).update({1: "S", 2: (50.0, 30.5, 12.25)})
    frames = (_small_image(photo), _small_image(photo)[:20, :30])
    pages = (([frame], frame.shape, frame.dtype) for frame in frames)
    about = images.Picture(frames, exif=exif.tobytes(), icc=SRGB)
    images.write_tiff_pages(tmp_path / "a.tif", pages, about, total_bytes)
    assert (tmp_path / "a.tif").read_bytes()[2] == (43 if total_bytes else 42)
    read = images.read_image(tmp_path / "a.tif")
    for frame, expected in zip(read.frames, frames, strict=True):
        np.testing.assert_array_equal(frame, expected)
    with Image.open(tmp_path / "a.tif") as image:
        for page in range(2):
            image.seek(page)
            found = image.getexif()
            assert found[0x0110] == "Camera" and dict(found.get_ifd(0x8769)) == dict(exif.get_ifd(0x8769))
            assert dict(found.get_ifd(0x8825)) == {1: "S", 2: (50.0, 30.5, 12.25)}
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        for page in tiff.pages:
            assert page.tags["ExifTag"].value["ISOSpeedRatings"] == 200
            assert page.tags["GPSTag"].value["GPSLatitude"] == (50, 1, 61, 2, 49, 4)
            assert page.tags["InterColorProfile"].value == SRGB


@pytest.mark.parametrize("shallow", ["rgb", "gray", "palette"])
@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
@pytest.mark.parametrize("deep", ["rgb", "gray"])
def test_pages_of_different_depth_are_all_read_at_16_bits(tmp_path, photo, shallow, order, deep):
    import tifffile

    before = _image_16_bit(photo, {"rgb": 3, "gray": 1}[deep])
    plain = {"rgb": Image.fromarray(_small_image(photo)), "gray": Image.fromarray(_small_image(photo)[..., 1])}
    plain["palette"] = plain["rgb"].quantize(16)
    buffers = [BytesIO(), BytesIO()]
    tifffile.imwrite(buffers[0], before.squeeze(), photometric="rgb" if deep == "rgb" else "minisblack")
    plain[shallow].save(buffers[1], "TIFF")
    joined = BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(joined, new=True) as writer:
        for place in order:
            writer.write(buffers[place].getvalue())
            writer.newFrame()
    (tmp_path / "a.tif").write_bytes(joined.getvalue())
    frames = images.read_image(tmp_path / "a.tif").frames
    expected = np.asarray(plain[shallow].convert("L" if shallow == "gray" else "RGB")).reshape(40, 64, -1)
    assert [frame.dtype for frame in frames] == [np.uint16] * 2
    np.testing.assert_array_equal(frames[order.index(0)], before)
    np.testing.assert_array_equal(frames[order.index(1)], expected.astype(np.uint16) * 257)


def test_an_animation_of_16_bits_is_read_whole(upscale, photo, tmp_path):
    import imagecodecs

    def chunks(data):
        place, found = 8, collections.defaultdict(bytes)
        while place < len(data):
            (length,) = struct.unpack(">I", data[place : place + 4])
            found[data[place + 4 : place + 8]] += data[place + 8 : place + 8 + length]
            place += 12 + length
        return found

    def written(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    first, second = (
        chunks(imagecodecs.png_encode(frame)) for frame in (_image_16_bit(photo, 3), _image_16_bit(photo, 3)[::-1])
    )
    control = lambda number: struct.pack(">IIIIIHHBB", number, 64, 40, 0, 0, 100, 1000, 0, 0)  # noqa: E731
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + written(b"IHDR", first[b"IHDR"]) + written(b"acTL", struct.pack(">II", 2, 0))
        + written(b"fcTL", control(0)) + written(b"IDAT", first[b"IDAT"])
        + written(b"fcTL", control(1)) + written(b"fdAT", struct.pack(">I", 2) + second[b"IDAT"])
        + written(b"IEND", b"")
    )  # fmt: skip
    target, lines = upscale(tmp_path / "a.png")
    after = images.read_image(target).frames
    assert lines == [] and [frame.dtype for frame in after] == [np.uint16] * 2
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.png").frames[0], _image_16_bit(photo, 3))


def test_a_gif_that_plays_once_keeps_its_loop_count(tmp_path, photo):
    frames = [Image.fromarray(_small_image(photo)), Image.fromarray(_small_image(photo)[::-1])]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    once = images.read_image(tmp_path / "a.gif")
    assert once.loop == 1
    for suffix in ("gif", "png", "webp"):
        images.write_image(tmp_path / f"b.{suffix}", once)
        assert images.read_image(tmp_path / f"b.{suffix}").loop == 1, suffix


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_16_bit_images(orientation, tmp_path, photo):
    import imagecodecs

    exif = Image.Exif()
    exif[0x0112] = orientation
    encoded = imagecodecs.png_encode(_image_16_bit(photo, 3))
    described = png_chunks(images.Picture((), exif=exif.tobytes()))
    (tmp_path / "a.png").write_bytes(encoded[:33] + b"".join(described) + encoded[33:])
    Image.fromarray(_small_image(photo)).save(tmp_path / "b.png", exif=exif)
    deep, shallow = (images.read_image(tmp_path / name).frames[0] for name in ("a.png", "b.png"))
    assert deep.dtype == np.uint16
    np.testing.assert_allclose(deep / 257.0, shallow, atol=1)


def test_target_sizes(bilinear, photo, tmp_path):
    Image.fromarray(_small_image(photo)).save(tmp_path / "a.png")
    for wanted, size in (
        ({"scale": 1.5}, (96, 60)),
        ({"scale": 3}, (192, 120)),
        ({"width": 100}, (100, 62)),  # 40 * 100 / 64 = 62.5, rounded to even
        ({"long_side": 50}, (50, 31)),
    ):
        jobs = bulk.find_jobs([tmp_path / "a.png"], tmp_path / "b.png")
        bulk.upscale_files(jobs, bilinear, bulk.target_size(2, **wanted), tile_px=32, overwrite=True)
        with Image.open(tmp_path / "b.png") as result:
            assert result.size == size
            twice = np.stack([_bilinear_x2(_small_image(photo)[..., c]) for c in range(3)], axis=-1)
            twice = Image.fromarray(np.floor(twice + 0.5).astype(np.uint8))
            expected = np.asarray(twice.resize(size, Image.Resampling.BICUBIC))
            np.testing.assert_allclose(np.asarray(result).astype(int), expected, atol=3)  # 8 bits between the steps


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_resizing_by_rows_equals_resizing_the_whole(dtype, channels):
    rng = np.random.default_rng(0)
    image = rng.integers(0, np.iinfo(dtype).max, (700, 37, channels), dtype, endpoint=True)
    image[..., -1] = image[..., -1] if channels != 4 else np.iinfo(dtype).max
    for size in ((333, 50), (1100, 20), (700, 37)):
        strips = np.split(image, [3, 100, 101, 500])
        result = np.concatenate(list(images.resize_rows(strips, image.shape, size)))
        assert result.shape == (*size, channels) and result.dtype == dtype
        for c in range(channels):
            samples = Image.fromarray(image[..., c].astype(np.float32))
            whole = np.asarray(samples.resize(size[::-1], Image.Resampling.BICUBIC))
            whole = np.clip(whole, 0, np.iinfo(dtype).max)
            assert np.abs(result[..., c] - whole).max() <= (0.51 if dtype == np.uint8 else 2.0)


def test_images_are_read_from_memory(photo):
    buffer = BytesIO()
    Image.fromarray(_small_image(photo)).save(buffer, "PNG")
    np.testing.assert_array_equal(images.read_image(buffer).frames[0], _small_image(photo))


def test_images_that_a_format_cannot_hold_are_refused(tmp_path, photo):
    deep = np.zeros((4, 4, 3), np.uint16)
    with pytest.raises(ValueError, match=re.escape(".jpg doesn't support 16 bits; .png and .tif do")):
        images.write_image(tmp_path / "a.jpg", deep)
    with pytest.raises(ValueError, match="doesn't support transparency"):
        images.write_image(tmp_path / "a.jpg", np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(ValueError, match=r"16384 x 1 pixels \(at most 16383 a side\)"):
        images.write_image(tmp_path / "a.webp", np.zeros((1, 16_384, 3), np.uint8))
    with pytest.raises(ValueError, match="doesn't support 2 frames"):
        images.write_image(tmp_path / "a.jpg", images.Picture((photo, photo)))
    assert list(tmp_path.iterdir()) == []
