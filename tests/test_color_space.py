"""Tests of colour spaces: a statement is written back, converted, or named. Truth: Little CMS by Pillow, and H.273."""

import struct
import zlib
from io import BytesIO

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, features

from srgan_jax import bulk, images
from srgan_jax.images import color_space
from srgan_jax.images.containers import isobmff, tiff_tags

LINEAR = struct.pack(">I", 100_000)
ADOBE_RGB = struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
P3, PQ, NARROW = bytes((12, 13, 0, 1)), bytes((9, 16, 0, 1)), bytes((1, 1, 0, 0))
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(path, pixels, *chunks):
    data = imagecodecs.png_encode(pixels)
    path.write_bytes(data[:33] + b"".join(_chunk(*chunk) for chunk in chunks) + data[33:])


def _chunks(path):
    data, place, found = path.read_bytes(), 8, {}
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        found[data[place + 4 : place + 8]] = data[place + 8 : place + 8 + length]
        place += 12 + length
    return found


def _flat(color, dtype=np.uint8):
    return np.full((16, 24, len(color)), color, dtype)


def _shown(path):
    """Returns the mean colour of a file in sRGB, converted by its profile."""
    with Image.open(path) as image:
        icc = image.info.get("icc_profile")
        if icc:
            srgb = ImageCms.createProfile("sRGB")
            image = ImageCms.profileToProfile(image, ImageCms.ImageCmsProfile(BytesIO(icc)), srgb, outputMode="RGB")
        return np.asarray(image.convert("RGB")).mean((0, 1))


STATEMENTS = {
    "linear": [(b"gAMA", LINEAR)],
    "adobe": [(b"gAMA", struct.pack(">I", 45455)), (b"cHRM", ADOBE_RGB)],
    "p3": [(b"cICP", P3)],
    "pq": [(b"cICP", PQ), (b"mDCV", bytes(24)), (b"cLLI", bytes(8))],
    "srgb": [(b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 45455))],
    "narrow": [(b"cICP", NARROW)],
}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", STATEMENTS)
def test_statements_of_a_png_are_written_back(name, dtype, upscale, tmp_path):
    _png(tmp_path / "a.png", _flat((100, 150, 50), dtype), *STATEMENTS[name])
    target, lines = upscale("a.png")
    found = _chunks(target)
    assert lines == [] and {kind: found.get(kind) for kind, _ in STATEMENTS[name]} == dict(STATEMENTS[name])
    assert b"iCCP" not in found


# Each colour in sRGB by the definitions: linear light of the sample, matrix of the primaries to those of BT.709 (from
# their chromaticities, white D65), encoding of sRGB; 255 times the result. Linear: 100 / 255 = 0.392 -> 0.660 = 168.
SHOWN = {"linear": (168, 202, 122), "adobe": (66, 151, 33), "p3": (83, 152, 23), "srgb": (100, 150, 50)}


@pytest.mark.parametrize("name", SHOWN)
def test_other_formats_get_a_profile_or_srgb(name, upscale, tmp_path):
    _png(tmp_path / "a.png", _flat((100, 150, 50)), *STATEMENTS[name])
    for format in ("webp", "tif", "bmp"):
        target, lines = upscale("a.png", format=format, quality=100)
        np.testing.assert_allclose(_shown(target), SHOWN[name], atol=1.5, err_msg=format)
        if name == "srgb":
            assert lines == []
        elif format == "bmp":
            assert lines == [".bmp can't hold a colour profile: colours are converted to sRGB"]
        else:
            assert len(lines) == 1 and "written as a colour profile" in lines[0]


def _srgb_of(encoded, gamma, primaries):
    """Returns the sRGB values of encoded ones, by the definitions of CIE 1931 and IEC 61966-2-1."""

    def to_xyz(xy):
        white, *colours = [np.array([x / y, 1, (1 - x - y) / y]) for x, y in np.reshape(xy, (4, 2))]
        matrix = np.stack(colours, axis=1)
        return matrix * np.linalg.solve(matrix, white)

    light = np.linalg.solve(to_xyz(color_space.BT709), to_xyz(primaries) @ (np.array(encoded) / 255) ** gamma)
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def test_values_of_the_table_above():
    adobe = (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
    p3 = (*color_space.D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
    light = 255 * color_space.LINEAR_LIGHT[13](np.array([100, 150, 50]) / 255)
    np.testing.assert_allclose(SHOWN["p3"], _srgb_of(light, 1.0, p3), atol=1)
    np.testing.assert_allclose(SHOWN["adobe"], _srgb_of((100, 150, 50), 2.2, adobe), atol=1)
    np.testing.assert_allclose(SHOWN["linear"], _srgb_of((100, 150, 50), 1.0, color_space.BT709), atol=1)


@pytest.mark.parametrize("codes", [(12, 13), (9, 1), (5, 1), (11, 17), (1, 8), (1, 4)])
def test_profiles_of_code_points(codes):
    """Little CMS converts colours by our profile as the definitions of H.273 do."""
    curve = color_space.LINEAR_LIGHT[codes[1]]
    icc = color_space.profile(color_space.ColorSpace(codes), gray=False)
    assert icc is not None and icc == color_space.profile(color_space.ColorSpace(codes), gray=False)
    encoded = np.array([120, 128, 118])
    light = curve(encoded / 255.0) if codes[1] != 8 else encoded / 255.0
    expected = _srgb_of(255 * light, 1.0, (*color_space.D65, *color_space.PRIMARIES[codes[0]][2:]))
    if codes[0] != 11:  # another white, to which colours are adapted
        got = color_space.to_srgb(np.full((1, 1, 3), encoded, np.uint8), icc)[0, 0]
        np.testing.assert_allclose(got, expected, atol=1.5)
    else:
        gray = color_space.to_srgb(np.full((1, 1, 3), 255, np.uint8), icc)[0, 0]
        assert gray.min() >= 253


def test_gray_images_with_a_gamma(upscale, tmp_path):
    _png(tmp_path / "a.png", _flat((100,))[..., 0], (b"gAMA", LINEAR))
    assert _chunks(upscale("a.png")[0])[b"gAMA"] == LINEAR
    target, _ = upscale("a.png", format="jpg")
    np.testing.assert_allclose(_shown(target), 168, atol=1.5)
    target, _ = upscale("a.png", format="bmp")
    np.testing.assert_allclose(_shown(target), 168, atol=1.5)


def test_hdr_in_a_format_without_it_becomes_a_png(upscale, tmp_path):
    _png(tmp_path / "a.png", _flat((100, 150, 50), np.uint16), (b"cICP", PQ))
    for format in ("jpg", "webp", "tif", "bmp"):
        target, lines = upscale("a.png", format=format, overwrite=True)
        assert target.suffix == ".png" and _chunks(target)[b"cICP"] == PQ
        assert lines == [f".{format} can't state the colour space (HDR, PQ): written as .png"]


def test_the_name_of_an_hdr_result_is_known_before_it_is_read(bilinear, tmp_path):
    _png(tmp_path / "a.png", _flat((100, 150, 50), np.uint16), (b"cICP", PQ))
    jobs = bulk.find_jobs([tmp_path / "a.png"], tmp_path / "out", format="jpg")
    for done in (1, 0):  # the second run finds the result of the first
        summary = bulk.upscale_files(jobs, bilinear, bulk.target_size(2), tile_px=32, report=lambda line: None)
        assert len(summary.done) == done and len(summary.skipped) == 1 - done
    assert [path.name for path in (tmp_path / "out").glob("a.*")] == ["a.png"]


def test_a_result_that_must_be_a_tiff_names_what_it_cannot_state(tmp_path, monkeypatch):
    """Results of more than 1 GiB are TIFF."""
    _png(tmp_path / "a.png", _flat((100, 150, 50), np.uint16), (b"cICP", PQ))
    monkeypatch.setattr(images.formats, "MAX_IN_MEMORY_BYTES", 1000)
    picture = images.read_image(tmp_path / "a.png")
    picture, path, notes = images.fit_format(picture, tmp_path / "b.png", lambda height, width: (2 * height, 2 * width))
    assert path.name == "b.tif" and picture.color is None
    assert notes[1:] == [".tif can't state the colour space (HDR, PQ): it will be shown with wrong colours"]


def test_a_profile_is_converted_where_it_cannot_be_held(upscale, tmp_path):
    icc = color_space.profile(color_space.ColorSpace((12, 13)), gray=False)
    for pixels, format in ((_flat((100, 150, 50)), "bmp"), (_flat((25_700, 38_550, 12_850), np.uint16), "ppm")):
        images.write_image(tmp_path / "a.png", images.Picture((pixels,), icc=icc))
        target, lines = upscale("a.png", format=format)
        np.testing.assert_allclose(_shown(target), SHOWN["p3"], atol=1.5)
        assert lines == [f".{format} can't hold a colour profile: colours are converted to sRGB"]
    target, lines = upscale("a.png", strip=True)
    np.testing.assert_allclose(images.read_image(target).frames[0].mean((0, 1)) / 257, SHOWN["p3"], atol=1.5)
    assert b"iCCP" not in _chunks(target)
    assert lines == ["--strip drops the colour profile: colours are converted to sRGB"]
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    images.write_image(tmp_path / "b.png", images.Picture((_flat((100, 150, 50)),), icc=srgb))
    assert upscale("b.png", format="bmp")[1] == []


def test_a_profile_that_does_not_fit_is_named(upscale, tmp_path):
    images.write_image(tmp_path / "a.png", images.Picture((_flat((100, 150, 50)),), icc=b"junk"))
    _, lines = upscale("a.png", format="bmp")
    assert len(lines) == 1 and "the colour profile doesn't fit" in lines[0]


def _avif(path, pixels, codes, bits=8):
    primaries, transfer = codes
    matrix = {"primaries": primaries, "transfer": transfer, "matrix": 9 if primaries == 9 else 1}
    path.write_bytes(
        imagecodecs.avif_encode(
            pixels, level=100, bitspersample=bits, pixelformat=imagecodecs.AVIF.PIXEL_FORMAT.YUV444, **matrix
        )
    )


@needs_avif
def test_nclx_of_an_avif_is_written_back(upscale, tmp_path):
    _avif(tmp_path / "a.avif", _flat((100, 150, 50)), (12, 13))
    target, lines = upscale("a.avif")
    assert lines == [] and isobmff.color_of(target.read_bytes()) == (12, 13)
    np.testing.assert_allclose(images.read_image(target).frames[0].mean((0, 1)), (100, 150, 50), atol=2)
    target, lines = upscale("a.avif", format="png")
    assert lines == [] and _chunks(target)[b"cICP"] == P3
    target, lines = upscale("a.avif", format="jpg")
    np.testing.assert_allclose(_shown(target), SHOWN["p3"], atol=3)


@needs_avif
def test_avif_of_10_bits_and_hdr(upscale, tmp_path):
    ramp = np.linspace(0, 1023, 24).astype(np.uint16)[None, :, None].repeat(16, 0).repeat(3, 2)
    _avif(tmp_path / "a.avif", ramp, (9, 16), bits=10)
    read = images.read_image(tmp_path / "a.avif").frames[0]
    assert read.dtype == np.uint16 and np.abs(read / 65535.0 - ramp / 1023.0).max() < 0.004
    target, lines = upscale("a.avif")
    data = target.read_bytes()
    assert lines == [".avif is written with 10 bits"] or lines == []
    assert isobmff.color_of(data) == (9, 16) and imagecodecs.avif_decode(data).max() > 1000
    target, lines = upscale("a.avif", format="png")
    assert lines == [] and _chunks(target)[b"cICP"] == PQ
    assert imagecodecs.png_decode(target.read_bytes()).dtype == np.uint16


@needs_avif
def test_nclx_of_an_animated_avif(upscale, tmp_path):
    frames = [Image.fromarray(_flat(color)) for color in ((100, 150, 50), (50, 150, 100))]
    frames[0].save(tmp_path / "a.avif", save_all=True, append_images=frames[1:], duration=100, quality=100)
    stated = isobmff.with_color((tmp_path / "a.avif").read_bytes(), 12, 13)
    (tmp_path / "a.avif").write_bytes(stated)
    for format in ("avif", "png", "webp"):
        target, lines = upscale("a.avif", format=format)
        read = images.read_image(target)
        assert len(read.frames) == 2 and len(lines) == (format == "webp"), format
        if format == "webp":
            np.testing.assert_allclose(color_space.to_srgb(read.frames[0], read.icc)[0, 0], SHOWN["p3"], atol=6)
        else:
            assert read.color.codes == (12, 13), format


@needs_avif
def test_16_bits_with_metadata_become_8_in_an_avif(upscale, tmp_path):
    images.write_image(tmp_path / "a.png", images.Picture((_flat((25_700, 38_550, 12_850), np.uint16),)))
    target, lines = upscale("a.png", format="avif")
    assert isobmff.bits_of(target.read_bytes()) == 10 and lines == [".avif is written with 10 bits"]
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    images.write_image(tmp_path / "b.png", images.Picture((_flat((100, 150, 50), np.uint16),), icc=srgb))
    target, lines = upscale("b.png", format="avif")
    assert isobmff.bits_of(target.read_bytes()) == 8 and "with 8 bits, because" in lines[0]
    with pytest.raises(ValueError, match="16 bits with a colour profile"):
        images.write_image(tmp_path / "c.avif", images.read_image(tmp_path / "b.png"))


def test_heic_of_10_bits(upscale, tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif", reason='pip install "srgan-jax[heic]"')
    deep = np.linspace(0, 65535, 64).astype(np.uint16)[None, :, None].repeat(64, 0).repeat(3, 2)
    image = pillow_heif.from_bytes(mode="RGB;16", size=(64, 64), data=np.ascontiguousarray(deep).tobytes())
    codes = {"color_primaries": 9, "transfer_characteristics": 16, "matrix_coefficients": 9, "full_range_flag": 1}
    image.save(tmp_path / "pq.heic", quality=95, **codes)
    read = images.read_image(tmp_path / "pq.heic")
    assert read.frames[0].dtype == np.uint16 and np.abs(read.frames[0].astype(int) - deep).mean() < 700
    target, lines = upscale("pq.heic")
    assert target.name == "pq.png" and _chunks(target)[b"cICP"] == PQ
    assert lines == [".jpg can't state the colour space (HDR, PQ): written as .png"]
    image = pillow_heif.from_pillow(Image.fromarray(_flat((100, 150, 50)).repeat(4, 0).repeat(4, 1)))
    image.save(tmp_path / "p3.heic", quality=100, **(codes | {"color_primaries": 12, "transfer_characteristics": 13}))
    target, lines = upscale("p3.heic")
    assert target.suffix == ".jpg"
    np.testing.assert_allclose(_shown(target), SHOWN["p3"], atol=6)


@pytest.mark.parametrize("bits", [16, 32])
def test_tiff_of_floats(bits, upscale, tmp_path):
    values = np.linspace(0, 1, 24, dtype=f"f{bits // 8}")[None, :, None].repeat(16, 0).repeat(3, 2)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
    read = images.read_image(tmp_path / "a.tif").frames[0]
    np.testing.assert_allclose(read / 65535, values.astype(np.float64), atol=1e-5)
    result = tifffile.imread(upscale("a.tif")[0])
    np.testing.assert_allclose(result.mean() / 65535, values.astype(np.float64).mean(), atol=1e-3)


def test_tiff_of_24_bits_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((16, 72), np.uint8), photometric="minisblack")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        tags = tiff.pages[0].tags
        struct.pack_into("<I", data, tags[256].valueoffset, 24)
        struct.pack_into("<H", data, tags[258].valueoffset, 24)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(images.ImageError, match="24 bits per sample; expected 16 or 32"):
        images.read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_jpeg_2000_of_16_bits(channels, upscale, tmp_path):
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 65536, (16, 24, channels), np.uint16)
    deep[..., -1] |= 0xFF00 if channels in (2, 4) else 0
    plain = deep[..., 0] if channels == 1 else deep
    (tmp_path / "a.jp2").write_bytes(imagecodecs.jpeg2k_encode(plain, level=0, codecformat="jp2", reversible=True))
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.jp2").frames[0], deep)
    target, lines = upscale("a.jp2")
    result = imagecodecs.jpeg2k_decode(target.read_bytes())
    assert lines == [] and result.dtype == np.uint16 and (result % 257 != 0).any()
    twelve = imagecodecs.jpeg2k_encode(plain >> 4, level=0, codecformat="jp2", reversible=True, bitspersample=12)
    (tmp_path / "b.jp2").write_bytes(twelve)
    read = images.read_image(tmp_path / "b.jp2").frames[0]
    np.testing.assert_allclose(read, (deep >> 4) * (65535 / 4095), atol=1)


def test_profile_of_a_jpeg_2000(upscale, tmp_path):
    icc = color_space.profile(color_space.ColorSpace((12, 13)), gray=False)
    images.write_image(tmp_path / "a.jp2", images.Picture((_flat((100, 150, 50)),), icc=icc))
    target, lines = upscale("a.jp2")
    assert lines == [] and icc in target.read_bytes()
    np.testing.assert_array_equal(images.read_image(target).frames[0][0, 0], (100, 150, 50))
    target, lines = upscale("a.jp2", format="jpg")
    np.testing.assert_allclose(_shown(target), SHOWN["p3"], atol=3)


@pytest.mark.parametrize("kind", ["P6", "P3", "P5"])
def test_ppm_of_16_bits(kind, upscale, tmp_path):
    rng = np.random.default_rng(0)
    channels = 1 if kind == "P5" else 3
    deep = rng.integers(0, 65536, (16, 24, channels), np.uint16)
    samples = " ".join(map(str, deep.ravel())).encode() if kind == "P3" else deep.astype(">u2").tobytes()
    (tmp_path / "a.ppm").write_bytes(kind.encode() + b"\n# comment\n24 16\n65535\n" + samples)
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.ppm").frames[0], deep)
    target, lines = upscale("a.ppm")
    data = target.read_bytes()
    assert lines == [] and data.startswith(b"P%d\n48 32\n65535\n" % (5 if channels == 1 else 6))
    result = np.frombuffer(data, ">u2", offset=len(b"P6\n48 32\n65535\n")).reshape(32, 48, channels)
    np.testing.assert_allclose(result[0, 0], deep[0, 0], atol=1)  # the corner of a bilinear result
    truncated = (tmp_path / "a.ppm").read_bytes()[:-9]
    (tmp_path / "b.ppm").write_bytes(truncated)
    if kind == "P6":
        with pytest.raises(images.ImageError, match="truncated"):
            images.read_image(tmp_path / "b.ppm")
    (tmp_path / "c.ppm").write_bytes(b"P6 1 1 1023 " + struct.pack(">3H", 0, 1023, 512))
    np.testing.assert_allclose(images.read_image(tmp_path / "c.ppm").frames[0][0, 0], (0, 65535, 32800), atol=1)


def _bmp(pixels, icc):
    """Returns a BMP with a header of version 5, as Photoshop writes it with a profile."""
    rows = pixels[::-1, :, ::-1].tobytes()  # of 4 n bytes each
    height, width = pixels.shape[:2]
    size = struct.pack("<IiiHHIIiiII", 124, width, height, 1, 24, 0, len(rows), 2835, 2835, 0, 0)
    profile = b"DEBM" + bytes(48) + struct.pack("<IIII", 4, 124 + len(rows), len(icc), 0)
    header = size + bytes(16) + profile
    return b"BM" + struct.pack("<IHHI", 138 + len(rows) + len(icc), 0, 0, 138) + header + rows + icc


ADOBE_PROFILE = bytes(imagecodecs.cms_profile("adobergb"))


def _to_srgb_by_pillow(pixels):
    source, target = ImageCms.ImageCmsProfile(BytesIO(ADOBE_PROFILE)), ImageCms.createProfile("sRGB")
    return np.asarray(ImageCms.profileToProfile(Image.fromarray(pixels), source, target))


def test_a_bmp_with_a_profile_is_read_with_it(tmp_path):
    pixels = np.full((8, 12, 3), (200, 100, 50), np.uint8)
    (tmp_path / "a.bmp").write_bytes(_bmp(pixels, ADOBE_PROFILE))
    picture = images.read_image(tmp_path / "a.bmp")
    assert picture.icc == ADOBE_PROFILE
    fitted, _, notes = images.fit_format(picture, "b.bmp", lambda height, width: (height, width))
    assert notes == [".bmp can't hold a colour profile: colours are converted to sRGB"]
    assert np.abs(fitted.frames[0].astype(int) - _to_srgb_by_pillow(pixels)).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("space, stated", [((2, None), True), ((0xFFFF, "R03"), True), ((1, None), False)])
def test_adobe_rgb_that_the_exif_of_a_tiff_states(tmp_path, dtype, space, stated):
    """uint8 is read by Pillow, float32 is not."""
    path = tmp_path / "a.tif"
    pixels = np.full((16, 16, 3), (200, 100, 50)) / (1 if dtype == np.uint8 else 255)
    tifffile.imwrite(path, pixels.astype(dtype), photometric="rgb", metadata=None, extratags=[(34666, 4, 1, 0, True)])
    exif = {40961: tiff_tags.Value(3, 1, struct.pack("<H", space[0]))}
    if space[1]:
        exif[40965] = {1: tiff_tags.Value(2, 4, space[1].encode() + b"\0")}
    tiff_tags.add_directories(path, {34665: exif}, big=False)
    assert images.read_image(path).color == (color_space.ADOBE_RGB if stated else None)


@pytest.mark.parametrize("space", [{40961: 2}, {40961: 0xFFFF, 40965: {1: "R03"}}, {40961: 1}, {40961: 0xFFFF}])
@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp"])
def test_adobe_rgb_that_exif_alone_states(tmp_path, space, suffix):
    exif = Image.Exif()
    exif.get_ifd(0x8769).update(space)
    pixels = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=100, subsampling=0, exif=exif)
    picture = images.read_image(tmp_path / "a.jpg")
    fitted, path, notes = images.fit_format(picture, tmp_path / f"b.{suffix}", lambda height, width: (height, width))
    images.write_image(path, fitted)
    result = images.read_image(path)
    if 40965 not in space and space[40961] != 2:
        assert result.icc is None and result.color is None and np.abs(result.frames[0].astype(int) - pixels).max() <= 2
        return
    expected = {"jpg": "written as a colour profile", "bmp": "converted to sRGB"}.get(suffix)
    assert expected is None or any(expected in note for note in notes), notes
    shown = images.fit_format(result, "c.bmp", lambda height, width: (height, width))[0].frames[0]
    assert np.abs(shown.astype(int) - _to_srgb_by_pillow(pixels)).max() <= 3  # of two JPEG compressions
