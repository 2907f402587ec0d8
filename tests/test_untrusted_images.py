"""Tests of what is read and what is refused: recognition by content, damage, bounds before decoding."""

import io
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, features

from srgan_jax import bulk, cli, images
from srgan_jax.images import limits, pillow, sniff

y, x = np.mgrid[:48, :64]
PHOTO = np.dstack([x * 4, y * 5, (x + y) * 2]).astype(np.uint8)  # smooth


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes) -> io.BytesIO:
    buffer = io.BytesIO()
    Image.fromarray(PHOTO).save(buffer, "PNG")
    return io.BytesIO(buffer.getvalue()[:33] + b"".join(chunks) + buffer.getvalue()[33:])


def jpeg(**options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PHOTO).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def tiff(path: Path, *pages: tuple[np.ndarray, dict]) -> Path:
    with tifffile.TiffWriter(path) as writer:
        for samples, options in pages:
            writer.write(samples, metadata=None, **options)
    return path


RGB = {"photometric": "rgb"}
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "DIB", "PPM", "TGA", "JPEG2000", "AVIF", "PCX", "SGI", "QOI")


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_recognised_by_content(tmp_path, name):
    if name == "AVIF" and not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    suffix = {"DIB": ".dib", "PPM": ".pnm", "TGA": ".tga", "PCX": ".pcx"}.get(name, ".xyz")
    Image.fromarray(PHOTO).save(tmp_path / f"a{suffix}", name)
    assert sniff.kind_of(tmp_path / f"a{suffix}").name == name
    read = images.read_image(tmp_path / f"a{suffix}").frames[0]
    assert read.shape == PHOTO.shape and np.abs(read.astype(int) - PHOTO).mean() < 8  # a GIF has 256 colours


def test_only_the_parser_of_the_recognised_format_runs(tmp_path, monkeypatch):
    asked = []
    opened = Image.open
    monkeypatch.setattr(
        Image, "open", lambda file, formats=None: asked.append(formats) or opened(file, formats=formats)
    )
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    images.read_image(tmp_path / "photo.png")
    assert asked == [["PNG"]]
    for content in (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n", b"\xc5\xd0\xd3\xc6" + bytes(60)):
        (tmp_path / "photo.jpg").write_bytes(content)
        with pytest.raises(images.ImageError, match="PostScript is not read"):
            images.read_image(tmp_path / "photo.jpg")
    assert asked == [["PNG"]]


@pytest.mark.parametrize(
    "name, content",
    [
        ("PDF", b"%PDF-1.7\n"),
        ("HTML", b"\n<!DOCTYPE html><html><img src=photo.jpg>"),
        ("SVG", b"<svg width='4' height='4'/>"),
        ("XML", b"<?xml version='1.0'?><svg width='4' height='4'/>"),
        ("XML", b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"),
        ("OpenEXR", b"v/1\x01\x02\0\0\0channels\0chlist\0"),
        ("video", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"),  # MP4
        ("video", b"\x1a\x45\xdf\xa3\x01\0\0\0"),  # Matroska
        ("video", b"RIFF\xff\0\0\0AVI LIST"),
    ],
)
def test_files_of_other_kinds_are_named(tmp_path, name, content):
    (tmp_path / "photo.jpg").write_bytes(content + bytes(64))
    with pytest.raises(images.ImageError, match=f"photo.jpg: {name} is not read: "):
        images.read_image(tmp_path / "photo.jpg")


def test_weak_signatures_need_their_suffix(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "a.tga")
    (tmp_path / "a.bin").write_bytes((tmp_path / "a.tga").read_bytes())
    (tmp_path / "text.txt").write_text("P3 is a word, and BM is another")
    assert images.find_images(tmp_path) == [tmp_path / "a.tga"]
    assert images.other_files(tmp_path) == [tmp_path / "a.bin", tmp_path / "text.txt"]


def test_limits_of_pillow_follow_the_open_files_and_are_restored(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow refuses 2000 pixels; the image has 3072
    path = tiff(tmp_path / "a.tif", (PHOTO, RGB | {"compression": "zlib"}))
    assert images.read_image(path).shape == PHOTO.shape
    with images.open_image(path, 5000), images.open_image(path, 4000):
        assert Image.MAX_IMAGE_PIXELS == 5000
    assert Image.MAX_IMAGE_PIXELS == 1000
    with pytest.raises(images.ImageError, match="0.003072 megapixels, more than the limit of 0.001"):
        images.read_image(path, max_pixels=1000)


@pytest.mark.parametrize(
    ("damaged", "note"),
    [
        (chunk(b"tEXt", b"Comment\0hello")[:-4] + bytes(4), "PNG chunk tEXt with a wrong checksum: left out"),
        (chunk(b"pHYs", bytes(4)), "PNG chunk pHYs with 4 bytes: left out"),
        (chunk(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(65 << 20))),
         "PNG chunk zTXt with more than 64 MB: left out"),
        (chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * (2 << 20))), None),
        (chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(2 << 20))), None),
    ],
)  # fmt: skip
def test_chunks_beside_the_image_of_a_png(damaged, note):
    picture = images.read_image(png(damaged))
    np.testing.assert_array_equal(picture.frames[0], PHOTO)
    assert note in picture.notes if note else not any("left out" in line for line in picture.notes)


def test_many_compressed_texts_of_a_png_are_not_all_decompressed():
    """Each of 100 texts has 60 MB: one is kept. Decompressing all takes 10 seconds or more."""
    compressed, start = zlib.compress(bytes(60 << 20)), time.process_time()
    picture = images.read_image(png(*[chunk(b"zTXt", b"%d\0\0" % index + compressed) for index in range(100)]))
    assert "PNG chunk zTXt with more than 64 MB: left out" in picture.notes and len(picture.text) == 1
    assert time.process_time() - start < 5


def test_damaged_samples_of_a_png_are_refused():
    data = bytearray(png().getvalue())
    data[len(data) // 2] ^= 255
    with pytest.raises(images.ImageError):
        images.read_image(io.BytesIO(bytes(data)))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_may_lack_its_end(progressive):
    data = jpeg(progressive=progressive)
    whole = images.read_image(io.BytesIO(data)).frames[0]
    for missing in (1, 2):
        picture = images.read_image(io.BytesIO(data[:-missing]))
        np.testing.assert_array_equal(picture.frames[0], whole)
        assert picture.notes == ("JPEG without its end: read, as viewers do",)
    for missing in (300, len(data) // 2):
        with pytest.raises(images.ImageError, match="(?i)truncated"):
            images.read_image(io.BytesIO(data[:-missing]))


def test_salvage_takes_what_is_there():
    data = jpeg()
    whole = images.read_image(io.BytesIO(data)).frames[0]
    picture = images.read_image(io.BytesIO(data[: 4 * len(data) // 5]), salvage=True)
    np.testing.assert_array_equal(picture.frames[0][:8, :32], whole[:8, :32])
    assert picture.shape == whole.shape and "damaged (image file is truncated" in picture.notes[0]
    with pytest.raises(images.ImageError, match="truncated"):  # nothing stays switched on
        images.read_image(io.BytesIO(data[: 4 * len(data) // 5]))
    assert images.read_image(io.BytesIO(data), salvage=True).notes == ()


def test_a_jpeg_2000_without_a_tile_is_refused():
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (9, 99, 199)).save(buffer, "JPEG2000", tile_size=(32, 32))
    data = buffer.getvalue()
    assert images.read_image(io.BytesIO(data)).shape[:2] == (64, 64)
    first = data.index(b"\xff\x90\0\x0a")  # marker and length of a tile's header, then its number and length
    without = data[:first] + data[first + int.from_bytes(data[first + 6 : first + 10], "big") :]
    with pytest.raises(images.ImageError, match="without 1 of its tiles"):
        images.read_image(io.BytesIO(without))
    assert images.read_image(io.BytesIO(without), salvage=True).shape[:2] == (64, 64)


def test_heic_without_its_extra_names_the_command(tmp_path, monkeypatch):
    (tmp_path / "IMG_0001.heic").write_bytes(struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(40))
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    monkeypatch.setattr(pillow, "_register_plugins", lambda: None)
    with pytest.raises(images.ImageError, match=r'pip install "srgan-jax\[heic\]"'):
        images.read_image(tmp_path / "IMG_0001.heic")


def test_a_psd_gives_its_merged_image(tmp_path):
    header = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 48, 64, 8, 3)
    planes = np.moveaxis(PHOTO, -1, 0).tobytes()
    (tmp_path / "a.psd").write_bytes(header + bytes(12) + bytes(2) + planes)
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.psd").frames[0], PHOTO)
    for merged in (0, 1):
        version = b"8BIM" + struct.pack(">HHI", 1057, 0, 6) + bytes(3) + bytes([1, merged, 0])
        resources = bytes(4) + struct.pack(">I", len(version)) + version + bytes(4)
        (tmp_path / "b.psd").write_bytes(header + resources + bytes(2) + planes)
        if merged:
            np.testing.assert_array_equal(images.read_image(tmp_path / "b.psd").frames[0], PHOTO)
        else:
            with pytest.raises(images.ImageError, match="PSD of layers alone"):
                images.read_image(tmp_path / "b.psd")


def dng(path: Path) -> Path:
    """A DNG as cameras write it: a thumbnail, and the sensor's samples in a SubIFD."""
    version, maker = (50706, "B", 4, (1, 4, 0, 0), True), (271, "s", 0, "NIKON", True)
    pattern = [(33421, "H", 2, (2, 2), True), (33422, "B", 4, (0, 1, 1, 2), True)]
    thumbnail = (PHOTO[::4, ::4].copy(), RGB | {"subfiletype": 1, "subifds": 1, "extratags": [version, maker]})
    samples = PHOTO[..., 1].astype(np.uint16) << 6
    return tiff(path, thumbnail, (samples, {"photometric": "cfa", "subfiletype": 0, "extratags": pattern}))


def test_camera_raw_is_refused_or_developed_but_its_thumbnail_is_not_taken(tmp_path, monkeypatch):
    for name in ("photo.dng", "photo.tif"):
        with monkeypatch.context() as patched:
            patched.setattr("srgan_jax.runtime.extras.missing", lambda extra: ["rawpy"])
            for read in (images.read_image, images.image_size):
                with pytest.raises(images.ImageError, match=r'camera raw: .*pip install "srgan-jax\[raw\]"'):
                    read(dng(tmp_path / name))
    pytest.importorskip("rawpy", reason='pip install "srgan-jax[raw]"')
    picture = images.read_image(tmp_path / "photo.dng")
    assert picture.shape == PHOTO.shape and picture.frames[0].dtype == np.uint16
    assert images.image_size(tmp_path / "photo.dng") == (48, 64)
    with pytest.raises(images.ImageError, match="more than the limit"):
        images.read_image(tmp_path / "photo.dng", max_pixels=1000)


def test_overviews_thumbnails_and_masks_are_not_pages(tmp_path):
    small = PHOTO[::4, ::4].copy()
    mask = (PHOTO[..., 0] > 99, {"photometric": 4, "subfiletype": 4})
    reduced = (small, RGB | {"subfiletype": 1})
    kinds = {
        "overview": [(PHOTO, RGB), reduced],
        "mask": [(PHOTO, RGB), mask],
        "thumbnail": [reduced, (PHOTO, RGB)],
        "both": [mask, reduced, (PHOTO, RGB), mask],
    }
    for name, pages in kinds.items():
        path = tiff(tmp_path / f"{name}.tif", *pages)
        picture = images.read_image(path)
        assert [frame.shape for frame in picture.frames] == [PHOTO.shape], name
        np.testing.assert_array_equal(picture.frames[0], PHOTO)
        left_out = len(pages) - 1
        assert f"left out: {left_out} of {len(pages)} directories, overviews, thumbnails or masks" in picture.notes
        assert images.image_size(path) == (48, 64)
    two = images.read_image(tiff(tmp_path / "two.tif", (PHOTO, RGB), (small, RGB)))
    assert len(two.frames) == 2 and not any("left out" in line for line in two.notes)


def test_an_image_in_a_sub_directory_behind_its_thumbnail(tmp_path):
    path = tiff(tmp_path / "a.tif", (PHOTO[::4, ::4].copy(), RGB | {"subfiletype": 1, "subifds": 1}), (PHOTO, RGB))
    np.testing.assert_array_equal(images.read_image(path).frames[0], PHOTO)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_bands_beside_colour_and_alpha_are_refused(tmp_path, dtype, planar):
    bands = np.dstack([PHOTO, PHOTO[..., :1]]).astype(dtype)
    samples = np.moveaxis(bands, -1, 0).copy() if planar == "separate" else bands
    for options in ({"photometric": "minisblack", "extrasamples": ["unspecified"] * 3},
                    {"photometric": "rgb", "extrasamples": ["unspecified"]}):  # fmt: skip
        with pytest.raises(images.ImageError, match="TIFF of 4 bands, of which (1 is|3 are) neither colour nor alpha"):
            images.read_image(tiff(tmp_path / "a.tif", (samples, options | {"planarconfig": planar})))
    alpha = {"photometric": "rgb", "extrasamples": ["unassalpha"], "planarconfig": planar}
    np.testing.assert_array_equal(images.read_image(tiff(tmp_path / "b.tif", (samples, alpha))).frames[0], bands)


def _directory(path: Path, **tags: int) -> Path:
    """A TIFF of one directory and no samples; tags by name, each one LONG."""
    numbers = {"width": 256, "height": 257, "bits": 258, "compression": 259, "photometric": 262, "offsets": 273,
               "samples": 277, "rows": 278, "counts": 279, "tile_width": 322, "tile_height": 323, "tile_offsets": 324,
               "tile_counts": 325, "depth": 32997}  # fmt: skip
    entries = sorted((numbers[name], value) for name, value in tags.items())
    body = b"".join(struct.pack("<HHII", number, 4, 1, value) for number, value in entries)
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4))
    return path


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"width": 100, "height": 100, "bits": 16, "samples": 45}, "of which 44 are neither"),
        ({"width": 10_000, "height": 10_000, "bits": 16, "samples": 45}, "9,000 MB of samples"),
        ({"width": 20_000, "height": 20_000, "bits": 8, "samples": 1}, "400 megapixels, more than the limit of 256"),
        ({"width": 15_000, "height": 15_000, "bits": 64, "samples": 3, "photometric": 2}, "5,400 MB of samples"),
        ({"width": 9, "height": 9, "bits": 8, "samples": 1, "tile_width": 60_000, "tile_height": 60_000,
          "tile_offsets": 8, "tile_counts": 9}, "3,600 MB of samples"),
    ],
)  # fmt: skip
def test_what_a_tiff_asks_for_is_refused_before_decoding(tmp_path, tags, message):
    tags = {"compression": 8, "photometric": 1} | tags
    tags |= {} if "tile_width" in tags else {"offsets": 8, "counts": 9, "rows": tags["height"]}
    with pytest.raises(images.ImageError, match=message):
        images.read_image(_directory(tmp_path / "a.tif", **tags))


def test_pages_are_counted_no_further_than_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_FRAMES", 8)
    path = tiff(tmp_path / "a.tif", *[(np.zeros((1, 1), np.uint8), {}) for _ in range(9)])
    with pytest.raises(images.ImageError, match="more than 8 frames or pages"):
        images.read_image(path)


def test_scans_of_a_jpeg_are_bounded():
    data = jpeg(progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(images.ImageError, match="JPEG of 2,?0.. scans"):
        images.read_image(io.BytesIO(data[:-2] + scan * 2000 + data[-2:]), max_pixels=PHOTO.size // 3)


def test_decoding_stops_after_the_given_time(tmp_path, monkeypatch):
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    monkeypatch.setattr(limits.os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    monkeypatch.setattr("srgan_jax.images.decode._read_with_pillow", lambda *arguments: time.sleep(5))
    start = time.monotonic()
    with pytest.raises(images.ImageError, match=r"not decoded within .* seconds; --max-seconds sets this limit"):
        images.read_image(tmp_path / "a.png", max_seconds=0.1)
    assert time.monotonic() - start < 3


def test_folders_hold_images_of_any_suffix(tmp_path):
    suffixes = {"jfif": "JPEG", "mpo": "JPEG", "apng": "PNG", "pnm": "PPM", "dib": "DIB", "j2k": "JPEG2000", "": "JPEG",
                "dat": "WEBP"}  # fmt: skip
    folder = tmp_path / "in"
    folder.mkdir()
    for suffix, name in suffixes.items():
        Image.fromarray(PHOTO).save(folder / f"{name}.{suffix}".rstrip("."), name)
    (folder / "notes.txt").write_text("text")
    targets = {job.source.name: job.target.name for job in bulk.find_jobs([folder], tmp_path / "out")}
    assert targets.keys() == {path.name for path in folder.iterdir()} - {"notes.txt"}
    written = {Path(source).suffix: Path(target).suffix for source, target in targets.items()}
    assert written == {".jfif": ".jpg", ".mpo": ".jpg", ".apng": ".png", ".pnm": ".ppm", ".dib": ".bmp", ".j2k": ".jp2",
                       "": ".jpg", ".dat": ".webp"}  # fmt: skip
    assert images.other_files(folder) == [folder / "notes.txt"]


def test_other_files_of_folders_are_counted_in_the_summary(tmp_path, capsys):
    Image.fromarray(PHOTO).save(tmp_path / "a.jfif", "JPEG")
    (tmp_path / "notes.txt").write_text("text")
    assert cli.main(["upscale", str(tmp_path), "-o", str(tmp_path / "out"), "--dry-run"]) == 0
    assert "files in the folders that are no images: 1\n" in capsys.readouterr().err


def test_crossed_links_are_followed_once(tmp_path):
    """Each of 12 folders links to all others: 12! paths without a memory of what was visited."""
    folders = [tmp_path / f"{number:02}" for number in range(12)]
    for folder in folders:
        folder.mkdir()
        Image.fromarray(PHOTO).save(folder / "a.png")
    for folder in folders:
        for other in folders:
            if other != folder:
                (folder / f"to_{other.name}").symlink_to(other)
    assert images.find_images(tmp_path) == [folder / "a.png" for folder in folders]


# ------------------------------------------------------------------------ faults that fuzzing found, one test each


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_an_orientation_that_does_not_exist_turns_nothing(tmp_path, name):
    exif = Image.Exif()
    exif[0x0112] = 200  # EXIF has 1 to 8
    Image.fromarray(PHOTO).save(tmp_path / name, exif=exif)
    assert images.image_size(tmp_path / name) == images.read_image(tmp_path / name).shape[:2] == (48, 64)


def test_a_tiff_page_without_samples_is_refused(tmp_path):
    """Its image depth, an extension for volumes (tag 32997), is 0."""
    tags = {"width": 9, "height": 1, "bits": 16, "samples": 3, "photometric": 2, "compression": 1, "depth": 0}
    path = _directory(tmp_path / "a.tif", **tags, offsets=8, counts=54, rows=1)
    with pytest.raises(images.ImageError, match="damaged TIFF: a page without samples"):
        images.decode_bands(path, images.Bands(2))


def test_the_decoded_size_must_be_that_of_the_header(tmp_path, monkeypatch):
    """The limits were applied to the header's size. Pillow's decoder is replaced by one that gives another size."""
    Image.fromarray(PHOTO).save(tmp_path / "a.bmp")

    def load(image):
        image._size = 999, 999

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(images.ImageError, match="damaged: 64 x 48 pixels in the header, 999 x 999 decoded"):
        images.read_image(tmp_path / "a.bmp")
