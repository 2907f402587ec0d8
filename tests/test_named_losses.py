"""Tests of what files hold beside the usual: it is read, or a line names what is not kept."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from srgan_jax import images
from srgan_jax.images import color_space

Y, X = np.mgrid[:32, :48]
SMOOTH = np.dstack([X * 5, Y * 7, (X + Y) * 3]).astype(np.uint8)
DISPLAY_P3 = color_space.profile(color_space.ColorSpace(codes=(12, 13)), gray=False) or b""
GRAY_GAMMA = color_space.profile(color_space.ColorSpace(gamma=1 / 1.8), gray=True) or b""
ROTATED = (
    b'XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-'
    b'rdf-syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF>'
    b"</x:xmpmeta>"
)


def _encoded(kind, frames=(SMOOTH,), **options):
    first, *others = map(Image.fromarray, frames)
    buffer = io.BytesIO()
    first.save(buffer, kind, append_images=others, **options)
    return buffer.getvalue()


def _jpeg(*segments, end=b""):
    encoded = _encoded("JPEG")
    added = b"".join(struct.pack(">HH", 0xFF00 | marker, len(data) + 2) + data for marker, data in segments)
    return encoded[:2] + added + encoded[2:] + end


def _png(kind, data):
    encoded = _encoded("PNG")
    return (
        encoded[:33]
        + struct.pack(">I", len(data))
        + kind
        + data
        + struct.pack(">I", zlib.crc32(kind + data))
        + encoded[33:]
    )


def _gif(extension=b"", aspect=0, **options):
    frames = [np.roll(SMOOTH[..., 0], shift, axis=1) for shift in (0, 8)]
    encoded = _encoded("GIF", frames, save_all=True, duration=100, **options)
    start = 13 + (3 << (encoded[10] & 7) + 1 if encoded[10] & 0x80 else 0)
    return encoded[:12] + bytes([aspect]) + encoded[13:start] + extension + encoded[start:]


def _read(data):
    return images.read_image(io.BytesIO(data))


PATH_RESOURCE = b"Photoshop 3.0\0" + b"8BIM" + struct.pack(">HHI", 2000, 0, 4) + b"abcd"
VIDEO = b"\0\0\0\x18ftypmp42" + bytes(12) + b"mdat" + bytes(99) + b"1"
NOT_SQUARE = "pixels that aren't square (2:1): the ratio is not copied"


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (_jpeg((0xE1, b"FLIR\0\1\0\0" + bytes(40))), "not copied: APP1 FLIR"),
        (_jpeg((0xE3, b"Meta\0" + bytes(40)), (0xE4, b"\1\2\3")), "not copied: APP3 Meta, APP4"),
        (_jpeg((0xED, PATH_RESOURCE)), "not copied: clipping paths"),
        (_jpeg(end=VIDEO), "the video behind the image (motion photo) is not copied"),
        (_jpeg(end=b"SEFH1234" + bytes(9)), "8 bytes behind the image are not copied"),
        (_encoded("JPEG")[:2] + b"\xff\xe0\0\x10JFIF\0\1\1\0\0\2\0\1\0\0" + _encoded("JPEG")[20:], NOT_SQUARE),
        (_png(b"npTc", b"1234"), "PNG chunks that are not copied: npTc"),
        (_png(b"pHYs", struct.pack(">IIB", 2, 1, 0)), NOT_SQUARE),
        (_gif(aspect=113), NOT_SQUARE),  # (113 + 15) / 64
    ],
)
def test_what_is_not_copied_is_named(data, note):
    assert _read(data).notes == (note,)


@pytest.mark.parametrize("data", [_jpeg(), _jpeg(end=bytes(64)), _png(b"sBIT", b"\5\6\5"), _gif(), _gif(aspect=49)])
def test_ordinary_files_have_no_notes(data):
    assert _read(data).notes == ()


def test_profile_and_xmp_of_a_gif_are_read():
    blocks = b"".join(bytes([len(part)]) + part for part in (DISPLAY_P3[i : i + 255] for i in range(0, 6732, 255)))
    trailer = b"\1" + bytes(range(255, -1, -1)) + b"\0"
    packet = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + b"x" * 300 + b"</x:xmpmeta>"
    profile = b"!\xff\x0bICCRGBG1012" + blocks + b"\0"
    picture = _read(_gif(profile + b"!\xff\x0bXMP DataXMP" + packet + trailer, comment=b"hello"))
    assert (picture.icc, picture.xmp, picture.comment) == (DISPLAY_P3, packet, b"hello")
    assert len(picture.frames) == 2


@pytest.mark.parametrize(("stored", "plays"), [(None, 1), (0, 0), (1, 2), (3, 4)])
def test_a_gif_counts_the_repetitions_after_the_first_time(tmp_path, stored, plays):
    """NETSCAPE2.0 extension: gif2webp and browsers play a GIF once more than its number; APNG and WebP count all."""
    picture = _read(_gif(**({} if stored is None else {"loop": stored})))
    assert picture.loop == plays
    for suffix, number in ((".gif", stored), (".png", plays), (".webp", plays)):
        images.write_image(tmp_path / f"a{suffix}", picture)
        with Image.open(tmp_path / f"a{suffix}") as image:
            assert image.info.get("loop") == number, suffix


@pytest.mark.parametrize("suffix", [".tif", ".avif"])
def test_an_animation_that_loses_its_times_or_repetitions_is_named(suffix):
    expected = {
        ".tif": ".tif holds pages: the durations of the 2 frames are not kept",
        ".avif": ".avif is repeated for ever: the number of times it is played (3) is not kept",
    }
    _, _, notes = images.fit_format(_read(_gif(loop=2)), f"x{suffix}", lambda height, width: (height, width))
    assert notes == [expected[suffix]]


@pytest.mark.parametrize("suffix", [".webp", ".avif"])
def test_the_profile_of_a_gray_image_is_applied_where_gray_is_stored_as_rgb(tmp_path, suffix):
    gray = SMOOTH[..., :1]
    picture, path, notes = images.fit_format(
        images.Picture((gray,), icc=GRAY_GAMMA), tmp_path / f"a{suffix}", lambda height, width: (height, width)
    )
    images.write_image(path, picture, quality=100)
    assert notes == [f"{suffix} can't hold the colour profile of a gray image: colours are converted to sRGB"]
    with Image.open(path) as image:
        written = np.asarray(image.convert("L")).astype(float)
        assert "icc_profile" not in image.info
    light = (gray[..., 0] / 255) ** 1.8
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(written - expected)[gray[..., 0] > 20].max() < 3


def test_tiffs_that_pillow_misreads(tmp_path):
    unit = (SMOOTH[..., 0] / 255).astype(np.float32)
    tifffile.imwrite(tmp_path / "float.tif", unit, photometric="minisblack", iccprofile=GRAY_GAMMA)
    assert images.read_image(tmp_path / "float.tif").icc == GRAY_GAMMA
    tifffile.imwrite(
        tmp_path / "webp.tif", SMOOTH, photometric="rgb", compression="webp", compressionargs={"lossless": True}
    )
    assert (images.read_image(tmp_path / "webp.tif").frames[0] == SMOOTH).all()
    tifffile.imwrite(tmp_path / "signed.tif", SMOOTH[..., 0].view(np.int8), photometric="minisblack")
    with pytest.raises(ValueError, match="int8 samples from -126 to"):
        images.read_image(tmp_path / "signed.tif")


def test_pages_of_a_tiff_that_differ_in_their_descriptions_and_colours(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(SMOOTH, photometric="rgb", iccprofile=DISPLAY_P3, resolution=(300, 300), description="first")
        tiff.write(SMOOTH, photometric="rgb", resolution=(150, 150), description="second")
    picture = images.read_image(tmp_path / "a.tif")
    assert picture.icc is None and picture.notes == (
        "the pages have different colour profiles: colours are converted to sRGB",
        "the pages differ in description, resolution: that of the first is written for all",
    )
    assert (picture.frames[1] == SMOOTH).all()
    srgb = ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(
        Image.fromarray(SMOOTH), ImageCms.ImageCmsProfile(io.BytesIO(DISPLAY_P3)), srgb
    )
    assert np.abs(picture.frames[0].astype(int) - np.asarray(converted)).max() <= 1


def test_a_transfer_function_in_a_tiff_is_named(tmp_path):
    curve = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), 3).tolist()
    tifffile.imwrite(tmp_path / "a.tif", SMOOTH, photometric="rgb", extratags=[(301, 3, 768, curve, True)])
    assert images.read_image(tmp_path / "a.tif").notes == ("the TIFF tags 301 are not copied",)


@pytest.mark.parametrize(("bits", "mode", "kind"), [(16, 3, "16 bits"), (8, 7, "multichannel")])
def test_kinds_of_psd_that_are_not_read(bits, mode, kind):
    data = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 4, 4, bits, mode) + bytes(200)
    with pytest.raises(ValueError, match=rf"PSD \({kind}\): only gray, RGB, CMYK and Lab of 8 bits are read"):
        _read(data)


def test_the_size_of_a_png_that_its_xmp_rotates():
    data = _png(b"iTXt", ROTATED)
    assert images.image_size(io.BytesIO(data)) == _read(data).shape[:2] == (48, 32)


def test_an_animated_png_that_its_xmp_rotates():
    encoded = _encoded("PNG", (SMOOTH, SMOOTH[::-1]), save_all=True)
    chunk = struct.pack(">I", len(ROTATED)) + b"iTXt" + ROTATED + struct.pack(">I", zlib.crc32(b"iTXt" + ROTATED))
    picture = _read(encoded[:33] + chunk + encoded[33:])
    assert (picture.frames[0] == np.rot90(SMOOTH, -1)).all()


def test_a_still_gif_keeps_transparency_and_comment(tmp_path):
    alpha = np.where(X < 20, 100, 200).astype(np.uint8)
    images.write_image(tmp_path / "a.gif", images.Picture((np.dstack([SMOOTH, alpha]),), comment=b"hello"))
    with Image.open(tmp_path / "a.gif") as image:
        assert image.info["comment"] == b"hello"
        assert (np.asarray(image.convert("RGBA"))[..., 3] == np.where(X < 20, 0, 255)).all()


def test_a_kind_of_jpeg_that_is_not_read_is_called_a_jpeg():
    from imagecodecs import jpeg8_encode

    with pytest.raises(ValueError, match="^JPEG that is damaged, or of a kind that is not read$"):
        _read(bytes(jpeg8_encode(SMOOTH.astype(np.uint16) * 16, bitspersample=12)))
