"""Tests of metadata: what files say besides samples comes out, read back by piexif, tifffile and Pillow."""

import struct
import zlib
from io import BytesIO

import numpy as np
import piexif
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from srgan_jax import images

BAD_EXIF = (b"garbage", b"\0\0\0\0MM\0*\0\0\0\x08\0\0", b"II*\0\xff\xff\xff\x7f", b"")
XMP = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description xmp:Rating="5" tiff:Orientation="6" '
    b'tiff:ImageWidth="24" GPano:FullPanoWidthPixels="100"><exif:PixelYDimension>16</exif:PixelYDimension>'
    b'<dc:title>Zo\xc3\xab</dc:title></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
IPTC = b"\x1c\x02\x19\x00\x03cat"  # 2:25, Keywords
MAKER = bytes(range(256)) * 3


@pytest.fixture
def small(photo):
    return np.ascontiguousarray(photo[60:76, 150:174])  # 16 x 24


def _info(path):
    with Image.open(path) as image:
        image.load()
        return image.info


def _exif():
    thumbnail = BytesIO()
    Image.new("RGB", (8, 8)).save(thumbnail, "JPEG")
    return {
        "0th": {
            piexif.ImageIFD.Artist: "Zoë Müller".encode(),
            piexif.ImageIFD.Copyright: "© 2024 Zoë".encode(),
            piexif.ImageIFD.ImageDescription: "東京".encode(),
            piexif.ImageIFD.Orientation: 6,
            piexif.ImageIFD.Rating: 5,
            piexif.ImageIFD.XPKeywords: tuple("cat\0".encode("utf-16-le")),
            piexif.ImageIFD.ImageWidth: 24,
        },
        "Exif": {
            piexif.ExifIFD.UserComment: b"ASCII\0\0\0Steps: 20",
            piexif.ExifIFD.MakerNote: MAKER,
            piexif.ExifIFD.PixelXDimension: 24,
            piexif.ExifIFD.PixelYDimension: 16,
            piexif.ExifIFD.ExposureTime: (1, 250),
            piexif.ExifIFD.SubjectArea: (3, 4),
        },
        "GPS": {piexif.GPSIFD.GPSLatitudeRef: b"N", piexif.GPSIFD.GPSLatitude: ((50, 1), (61, 2), (49, 4))},
        "Interop": {piexif.InteropIFD.InteroperabilityIndex: b"R03"},
        "1st": {piexif.ImageIFD.Compression: 6},
        "thumbnail": thumbnail.getvalue(),
    }


def _without_changes(read):
    changed = (piexif.ImageIFD.Orientation, piexif.ImageIFD.ImageWidth, piexif.ImageIFD.ExifTag, piexif.ImageIFD.GPSTag)
    own = {tag: value for tag, value in read["0th"].items() if tag not in changed}
    sized = (
        piexif.ExifIFD.PixelXDimension, piexif.ExifIFD.PixelYDimension, piexif.ExifIFD.SubjectArea,
        piexif.ExifIFD.InteroperabilityTag,
    )  # fmt: skip
    return own, {tag: value for tag, value in read["Exif"].items() if tag not in sized}, read["GPS"], read["Interop"]


def test_exif_of_a_jpeg_is_changed_in_place(upscale, small, tmp_path):
    before = piexif.dump(_exif())
    Image.fromarray(small).save(tmp_path / "a.jpg", exif=before)
    target, lines = upscale("a.jpg")
    after = _info(target)["exif"]
    assert lines == []
    read, old = piexif.load(str(target)), piexif.load(str(tmp_path / "a.jpg"))
    assert _without_changes(read) == _without_changes(old)
    assert read["0th"][piexif.ImageIFD.Artist].decode() == "Zoë Müller"
    assert read["0th"][piexif.ImageIFD.Orientation] == 1
    assert read["Exif"][piexif.ExifIFD.PixelXDimension] == 32  # rotated: 16 x 24, then twice
    assert read["Exif"][piexif.ExifIFD.PixelYDimension] == 48 and read["0th"][piexif.ImageIFD.ImageWidth] == 32
    assert read["1st"] == {} and read["thumbnail"] is None and piexif.ExifIFD.SubjectArea not in read["Exif"]
    assert after.index(MAKER) == before.index(MAKER)  # offsets in a MakerNote count from the beginning of the block
    assert b"\xff\xd8" not in after[20:]  # the thumbnail's bytes are gone


@pytest.mark.parametrize("format", ["png", "webp", "avif", "tif", "jp2"])
def test_exif_passes_to_every_format_that_holds_it(format, upscale, small, tmp_path):
    before = piexif.dump(_exif())
    Image.fromarray(small).save(tmp_path / "a.jpg", exif=before)
    target, lines = upscale("a.jpg", format=format)
    block = images.read_image(target).exif
    old, read = piexif.load(before), piexif.load(block)
    if format == "tif":
        assert lines == ["the MakerNote of EXIF moves in a TIFF: programs may not find all of its values"]
        with tifffile.TiffFile(target) as tiff:
            tags = tiff.pages[0].tags
            assert tags[315].dtype == 2 and tags["ExifTag"].value["UserComment"] == "Steps: 20"
            assert tags["ExifTag"].value["MakerNote"] == MAKER
            assert tags["GPSTag"].value["GPSLatitude"] == (50, 1, 61, 2, 49, 4)
    else:
        assert lines == [] and block.index(MAKER) == before.index(MAKER)
    assert _without_changes(read) == _without_changes(old)


def test_big_endian_exif_passes_to_a_tiff(upscale, small, tmp_path):
    block = b"Exif\0\0MM\0*" + struct.pack(">IHHHIIHHIII", 8, 2, 0x4746, 3, 1, 5 << 16, 0x8769, 4, 1, 38, 0)
    block += struct.pack(">HHHIIIII", 1, 0x829A, 5, 1, 56, 0, 1, 250)
    Image.fromarray(small).save(tmp_path / "a.jpg", exif=block)
    target, _ = upscale("a.jpg", format="tif")
    with tifffile.TiffFile(target) as tiff:
        assert tiff.pages[0].tags[0x4746].value == 5
        assert tiff.pages[0].tags["ExifTag"].value["ExposureTime"] == (1, 250)
    target, _ = upscale("a.jpg")
    assert _info(target)["exif"] == block


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # by Pillow
def test_damaged_exif_is_reported(upscale, small, tmp_path):
    Image.fromarray(small).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\0\0junk")
    target, lines = upscale("a.jpg")
    assert lines == ["EXIF is damaged: not copied"] and "exif" not in _info(target)


def _described_jpeg(path, small):
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC
    thumbnail = b"8BIM\x04\x0c\0\0" + struct.pack(">I", 4) + b"late"
    data = b"Photoshop 3.0\0" + thumbnail + resource
    extra = struct.pack(">HH", 0xFFED, len(data) + 2) + data
    Image.fromarray(small).save(path, xmp=XMP, comment=b"a comment \xe9", extra=extra)
    return resource


def test_xmp_iptc_and_comment_of_a_jpeg_are_copied(upscale, small, tmp_path):
    resource = _described_jpeg(tmp_path / "a.jpg", small)
    target, lines = upscale("a.jpg")
    with Image.open(target) as result:
        assert lines == [] and result.info["comment"] == b"a comment \xe9"
        assert [data for name, data in result.applist if name == "APP13"] == [b"Photoshop 3.0\0" + resource]
        expected = XMP.replace(b'Orientation="6"', b'Orientation="1"').replace(b'Width="24"', b'Width="32"')
        expected = expected.replace(b">16<", b">48<").replace(b'WidthPixels="100"', b'WidthPixels="200"')
        assert result.info["xmp"] == expected


def test_metadata_of_a_jpeg_in_other_formats(upscale, small, tmp_path):
    _described_jpeg(tmp_path / "a.jpg", small)
    target, lines = upscale("a.jpg", format="png")
    with Image.open(target) as result:
        result.load()
        assert b"Zo\xc3\xab" in result.info["XML:com.adobe.xmp"].encode() and result.text["Comment"] == "a comment é"
        assert IPTC.hex() in result.text["Raw profile type iptc"]
    assert lines == [] and IPTC in images.read_image(target).photoshop
    target, lines = upscale("a.jpg", format="tif")
    with tifffile.TiffFile(target) as tiff:
        assert tiff.pages[0].tags[33723].value == IPTC and b"Zo\xc3\xab" in tiff.pages[0].tags[700].value
    assert lines == [".tif can't hold the comment: not copied"]
    assert upscale("a.jpg", format="webp")[1] == [".webp can't hold IPTC, the comment: not copied"]
    assert upscale("a.jpg", format="bmp")[1] == [".bmp can't hold XMP, IPTC, the comment: not copied"]
    target, lines = upscale("a.jpg", format="jp2")
    assert b"Zo\xc3\xab" in target.read_bytes() and lines == [".jp2 can't hold the comment: not copied"]
    assert IPTC in images.read_image(target).photoshop
    (tmp_path / "b.tif").write_bytes((tmp_path / "out" / "a.tif").read_bytes())
    target, lines = upscale("b.tif", format="jpg")
    assert lines == [] and IPTC in target.read_bytes() and b"Zo\xc3\xab" in _info(target)["xmp"]
    target, lines = upscale("a.jpg", format="jpg", strip=True, overwrite=True)
    assert lines == [] and b"xpacket" not in target.read_bytes() and b"8BIM" not in target.read_bytes()


def test_text_of_a_png_is_copied(upscale, small, tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "a tree\nSteps: 40, Seed: 968002204")
    text.add_itxt("Title", "東京", lang="ja")
    text.add_text("workflow", "{}" * 500, zip=True)
    Image.fromarray(small).save(tmp_path / "a.png", pnginfo=text)
    target, lines = upscale("a.png")
    with Image.open(target) as result, Image.open(tmp_path / "a.png") as before:
        assert lines == [] and result.text == before.text and result.text["Title"].lang == "ja"
    _, lines = upscale("a.png", format="jpg")
    assert lines == [".jpg can't hold PNG text (parameters, Title, workflow): not copied"]


def test_raw_profiles_of_imagemagick_are_read(upscale, small, tmp_path):
    block, text = piexif.dump(_exif()), PngImagePlugin.PngInfo()
    for name, data in (("exif", block), ("iptc", IPTC), ("xmp", XMP)):
        text.add_text(f"Raw profile type {name}", f"\n{name}\n{len(data):8}\n{data.hex()}\n", zip=True)
    Image.fromarray(small).save(tmp_path / "a.png", pnginfo=text)
    target, lines = upscale("a.png", format="jpg")
    read = piexif.load(str(target))
    assert lines == [] and read["0th"][piexif.ImageIFD.Orientation] == 1 and IPTC in target.read_bytes()
    assert images.image_size(target) == (48, 32)  # upright
    assert b'Orientation="1"' in _info(target)["xmp"]


def test_text_after_the_samples_of_a_png(upscale, small, tmp_path):
    buffer = BytesIO()
    Image.fromarray(small).save(buffer, "PNG")
    data = buffer.getvalue()
    chunk = b"tEXtSoftware\0late"
    late = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(data[:-12] + late + data[-12:])
    assert _info(upscale("a.png")[0])["Software"] == "late"


def _geotiff(path, small, raster_type):
    keys = (1, 1, 0, 2, 1024, 0, 1, 2, 1025, 0, 1, raster_type)
    matrix = (2.0, 0, 0, 500, 0, -2.0, 0, 900, 0, 0, 0, 0, 0, 0, 0, 1)
    tifffile.imwrite(
        path, small, photometric="rgb",
        extratags=[
            (33550, 12, 3, (2.0, 4.0, 0.0), True), (33922, 12, 6, (3.0, 5.0, 0, 500, 900, 0), True),
            (34264, 12, 16, matrix, True), (34735, 3, len(keys), keys, True), (42113, 2, 0, "-9999", True),
            (50838, 4, 1, 7, True),
        ],
    )  # fmt: skip


def test_geotiff_tags_follow_the_size(upscale, small, tmp_path):
    _geotiff(tmp_path / "area.tif", small, 1)
    target, lines = upscale("area.tif")
    with tifffile.TiffFile(target) as tiff:
        tags = tiff.pages[0].tags
        assert tags[33550].value == (1.0, 2.0, 0.0) and tags[33922].value == (6.0, 10.0, 0, 500, 900, 0)
        assert tags[34264].value == (1.0, 0, 0, 500, 0, -1.0, 0, 900, 0, 0, 0, 0, 0, 0, 0, 1)
        assert tags[42113].value == "-9999" and len(tags[34735].value) == 12
    assert lines == ["the TIFF tags 50838 are not copied"]
    _geotiff(tmp_path / "point.tif", small, 2)
    target, _ = upscale("point.tif")
    with tifffile.TiffFile(target) as tiff:
        tags = tiff.pages[0].tags
        assert tags[33922].value[:2] == (6.5, 10.5)  # (3 + 0.5) * 2 - 0.5
        # The centre of the new first pixel lies a quarter of an old pixel before the old one.
        assert tags[34264].value[3] == 500 - 2.0 * 0.25 and tags[34264].value[7] == 900 + 2.0 * 0.25
    _, lines = upscale("area.tif", format="png")
    assert lines == ["the TIFF tags 50838 are not copied", ".png can't hold GeoTIFF tags: not copied"]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow misreads a big-endian BigTIFF
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_metadata_of_a_tiff_of_either_byte_order(byteorder, big, upscale, small, tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", small, photometric="rgb", byteorder=byteorder, bigtiff=big, resolution=(300, 200),
        resolutionunit="inch", metadata=None, description="Zoe", software="scanner",
        extratags=[(315, 2, 0, "Zoë".encode(), True), (700, 1, len(XMP), XMP, True), (33550, 12, 3, (2, 2, 0), True)],
    )  # fmt: skip
    target, lines = upscale("a.tif")
    with tifffile.TiffFile(target) as tiff:
        tags = tiff.pages[0].tags
        assert lines == [] and tags[270].value == "Zoe" and tags[33550].value == (1.0, 1.0, 0.0)
        assert tags[282].value == (300, 1) and tags[283].value == (200, 1) and tags[305].value == "scanner"
    target, _ = upscale("a.tif", format="jpg")
    assert piexif.load(str(target))["0th"][piexif.ImageIFD.Artist].decode() == "Zoë"


def test_a_gain_map_is_named(upscale, small, tmp_path):
    data = b"urn:iso:std:iso:ts:21496:-1\0"
    Image.fromarray(small).save(tmp_path / "iso.jpg", extra=struct.pack(">HH", 0xFFE2, len(data) + 2) + data)
    assert upscale("iso.jpg")[1] == ["the gain map (HDR) is not copied: the result is the SDR image"]
    packet = XMP.replace(b'xmp:Rating="5"', b'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"')
    Image.fromarray(small).save(tmp_path / "a.jpg", xmp=packet)
    target, lines = upscale("a.jpg")
    assert lines == ["the gain map (HDR) is not copied: the result is the SDR image"]
    assert b"hdrgm:Version" not in _info(target)["xmp"]


def test_the_second_image_of_an_mpo_is_named(upscale, small, tmp_path):
    first, second = Image.fromarray(small), Image.fromarray(small[::-1])
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    assert upscale("a.jpg")[1] == ["holds 2 images: only the first is upscaled"]


def test_extended_xmp_of_a_jpeg_is_copied(upscale, small, tmp_path):
    pieces = [b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + bytes([n]) * 50 for n in range(2)]
    extra = b"".join(struct.pack(">HH", 0xFFE1, len(piece) + 2) + piece for piece in pieces)
    Image.fromarray(small).save(tmp_path / "a.jpg", xmp=XMP, extra=extra)
    target, lines = upscale("a.jpg")
    with Image.open(target) as result:
        found = [data for name, data in result.applist if name == "APP1"]
    assert lines == [] and found[1:] == pieces and found[0].startswith(b"http://ns.adobe.com/xap/1.0/\0<?xpacket")
    assert upscale("a.jpg", format="png")[1] == [".png can't hold extended XMP: not copied"]


def test_a_comment_of_a_gif_is_copied(upscale, small, tmp_path):
    frames = [Image.fromarray(small), Image.fromarray(small[::-1])]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100, comment=b"a comment")
    target, lines = upscale("a.gif")
    assert lines == [] and _info(target)["comment"] == b"a comment"


def test_too_long_for_a_jpeg(upscale, small, tmp_path):
    images.write_image(tmp_path / "a.png", images.Picture((small,), xmp=XMP + b" " * 70_000))
    target, lines = upscale("a.png", format="jpg")
    assert lines == [f".jpg can't hold XMP ({len(XMP) + 70_000} bytes): not copied"] and "xmp" not in _info(target)


def test_content_credentials_are_named(upscale, small, tmp_path):
    data = b"JP\0\1\0\0\0\1\0\0\0\x20jumb" + b"\0" * 8 + b"c2pa"
    Image.fromarray(small).save(tmp_path / "a.jpg", extra=struct.pack(">HH", 0xFFEB, len(data) + 2) + data)
    assert "content credentials (C2PA) are not copied" in upscale("a.jpg")[1][0]


def test_exif_of_an_avif_is_copied_byte_for_byte(upscale, small, tmp_path):
    described = _exif()
    del described["0th"][piexif.ImageIFD.Orientation]
    block = piexif.dump(described)
    Image.fromarray(small).save(tmp_path / "a.avif", exif=block, xmp=XMP.replace(b'tiff:Orientation="6" ', b""))
    target, lines = upscale("a.avif")
    read = images.read_image(target).exif
    assert lines == [] and read.index(MAKER) == block.index(MAKER)
    assert _without_changes(piexif.load(read)) == _without_changes(piexif.load(block))
    assert b"Zo\xc3\xab" in _info(target)["xmp"]


def test_sizes_are_those_of_the_written_image(small, tmp_path):
    """Also where an image is written by `write_image`."""
    block = piexif.dump(_exif())
    images.write_image(tmp_path / "a.jpg", images.Picture((small,), exif=block))
    assert piexif.load(str(tmp_path / "a.jpg"))["Exif"][piexif.ExifIFD.PixelXDimension] == 24
    images.write_image(tmp_path / "b.jpg", images.Picture((np.zeros((5, 7000, 3), np.uint8),), exif=block))
    assert piexif.load(str(tmp_path / "b.jpg"))["Exif"][piexif.ExifIFD.PixelYDimension] == 5


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # of Pillow; the command ignores its warnings
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("block", BAD_EXIF)
def test_damaged_exif_is_left_out_and_the_image_is_read(small, tmp_path, suffix, block):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(small).save(path, exif=b"Exif\0\0" + block)
    assert images.read_image(path).shape == small.shape and images.image_size(path) == small.shape[:2]
