"""Reading of the metadata of image files: colours, EXIF, XMP, IPTC, comments, text, resolution."""

import contextlib
import os
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from PIL import ExifTags, Image

from srgan_jax.images import color_space
from srgan_jax.images.containers import exif, geotiff, gif, isobmff, jp2, jpeg_segments, png, tiff_tags, xmp
from srgan_jax.images.files import opened, read_bytes
from srgan_jax.images.picture import Picture
from srgan_jax.images.repair import readable_png

GAIN_MAP = "the gain map (HDR) is not copied: the result is the SDR image"
CREDENTIALS = "content credentials (C2PA) are not copied, because they hold for the original only"
NOT_SQUARE = "pixels that aren't square ({:g}:{:g}): the ratio is not copied"
VIDEO = re.compile(rb"ftyp(?:mp4|isom|qt|avc)")
SILENT_CHUNKS = (b"hIST", b"sPLT", b"sBIT", b"tIME", b"iDOT", b"vpAg")  # of PNGs; they describe the old samples
READ_CHUNKS = (*SILENT_CHUNKS, *png.TEXT, b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sRGB", b"cICP", b"mDCV", b"cLLI",
               b"pHYs", b"eXIf", b"caBX", b"acTL", b"fcTL", b"fdAT")  # fmt: skip
RAW_PROFILE = b"Raw profile type "  # the beginning of the keywords of ImageMagick's profiles in PNG texts
File = str | os.PathLike | BinaryIO


def metadata_of(image: Image.Image, file: File) -> dict[str, Any]:
    """Returns the fields of `Picture` other than the frames, for an image that Pillow opened and read.

    Damaged metadata are left out, with a note.
    """
    readers = {"JPEG": _jpeg, "MPO": _jpeg, "PNG": _png, "TIFF": _tiff, "AVIF": _avif, "HEIF": _heif, "JPEG2000": _jp2}
    readers |= {"BMP": _bmp, "DIB": _bmp, "GIF": _gif}
    fields: dict[str, Any] = {"notes": ()}
    for name, key in (("icc", "icc_profile"), ("exif", "exif"), ("xmp", "xmp"), ("comment", "comment")):
        value = image.info.get(key)
        fields[name] = value.encode() if isinstance(value, str) else value or None
    fields["dpi"] = _resolution(image.info.get("dpi"))
    ratio = _pixel_ratio(image)
    if read := readers.get(image.format or ""):
        try:
            fields |= read(image, file)
            if image.format in ("MPO", "HEIF") and (count := getattr(image, "n_frames", 1)) > 1:
                fields["notes"] += (f"holds {count} images: only the first is upscaled",)
        except Exception as error:  # damaged metadata raise exceptions of many types
            fields["notes"] += (f"metadata are damaged and not all copied: {error}",)
    if ratio[0] != ratio[1]:
        fields["notes"] += (NOT_SQUARE.format(*ratio),)
    return upright_fields(_with_color_of_exif(fields))


def _pixel_ratio(image: Image.Image) -> tuple[float, float]:
    """Returns the pixels per unit of length, horizontally and vertically, where a file gives no length."""
    if image.format == "JPEG" and image.info.get("jfif_unit") == 0:
        ratio = image.info.get("jfif_density", (1, 1))
    else:
        ratio = image.info.get("aspect", (1, 1))
    return ratio if len(ratio) == 2 and all(ratio) else (1, 1)


def tiff_metadata(file: File) -> dict[str, Any]:
    """Returns the fields of `Picture` other than the frames for a TIFF that Pillow can't read."""
    try:
        return upright_fields(_with_color_of_exif({"notes": (), **_tiff(None, file)}))
    except (ValueError, struct.error, OSError) as error:
        return {"notes": (f"metadata are damaged and not copied: {error}",)}


def _with_color_of_exif(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns fields of `Picture` with the colour space that EXIF states, where the file states none otherwise."""
    if not fields["icc"] and not fields.get("color") and _states_adobe_rgb(fields["exif"]):
        return fields | {"color": color_space.ADOBE_RGB}
    return fields


def upright_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns fields of `Picture` with the orientation 1 in EXIF and XMP."""
    if fields.get("exif"):
        try:
            fields["exif"] = exif.upright(fields["exif"])
        except (ValueError, struct.error):
            fields["notes"] += ("EXIF is damaged: not copied",)
            fields["exif"] = None
    if packet := fields.get("xmp"):
        if any(name in packet for name in xmp.GAIN_MAPS):
            fields["notes"] += (GAIN_MAP,)
        fields["xmp"] = xmp.upright(packet)
    fields["notes"] = tuple(dict.fromkeys(fields["notes"]))
    return fields


def _resolution(dpi: Any) -> tuple[float, float] | None:
    with contextlib.suppress(TypeError, ValueError, ZeroDivisionError):  # a damaged resolution is ignored
        horizontal, vertical = (float(value) for value in dpi)
        return (horizontal, vertical) if all(1 <= value <= 100_000 for value in (horizontal, vertical)) else None
    return None


def _jpeg(image: Image.Image, file: File) -> dict[str, Any]:
    segments = getattr(image, "applist", [])
    notes = []
    if any(data.startswith(jpeg_segments.ISO_GAIN_MAP) for name, data in segments if name == "APP2"):
        notes.append(GAIN_MAP)
    if any(name == "APP11" and b"c2pa" in data[:200] for name, data in segments):
        notes.append(CREDENTIALS)
    if others := jpeg_segments.others_of(segments):
        notes.append(f"not copied: {', '.join(others)}")
    rest = jpeg_segments.after_image(read_bytes(file))
    if VIDEO.search(rest):
        notes.append("the video behind the image (motion photo) is not copied")
    elif rest and image.format != "MPO":
        notes.append(f"{len(rest):,} bytes behind the image are not copied")
    return {
        "comment": jpeg_segments.comment_of(segments),
        "photoshop": jpeg_segments.photoshop_of(segments),
        "extended_xmp": jpeg_segments.extended_xmp_of(segments),
        "notes": tuple(notes),
    }


def _states_adobe_rgb(block: bytes | None) -> bool:
    """Returns whether an EXIF block states Adobe RGB, as cameras do it instead of embedding a profile (DCF 2.0)."""
    found = Image.Exif()
    try:
        found.load(block or b"")
        space = found.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.ColorSpace)
        return space == 2 or (space == 0xFFFF and found.get_ifd(ExifTags.IFD.Interop).get(1) == "R03")
    except Exception:  # damaged EXIF, which raises exceptions of many types, is reported later
        return False


def _bmp(image: Image.Image, file: File) -> dict[str, Any]:
    """Returns the profile of a BMP whose header has version 5, and a note for colours stated in other ways."""
    data = read_bytes(file)
    start = 14 if data.startswith(b"BM") else 0
    length, kind = struct.unpack_from("<I", data, start)[0], data[start + 56 : start + 60][::-1]
    if length >= 124 and kind == b"MBED":
        offset, size = struct.unpack_from("<2I", data, start + 112)
        return {"icc": data[start + offset : start + offset + size] or None}
    calibrated = length >= 108 and kind == bytes(4) and any(data[start + 60 : start + 108])
    if calibrated or (length >= 124 and kind == b"LINK"):
        return {"notes": ("the colours that the BMP's header states are taken for sRGB",)}
    return {}


def states_orientation(file: File) -> bool:
    """Returns whether a PNG has a chunk that can state its orientation: EXIF or XMP."""
    with opened(file) as stream:
        chunks = png.read_chunks(readable_png(stream)[0])
    texts = (png.XMP_KEY, RAW_PROFILE + b"exif")
    return any(kind == b"eXIf" or (kind in png.TEXT and data.startswith(texts)) for kind, data in chunks)


def _gif(image: Image.Image, file: File) -> dict[str, Any]:
    with opened(file) as stream:
        found: dict[str, Any] = {**gif.metadata_of(stream)}
        stream.seek(12)
        ratio = (stream.read(1)[0] + 15) / 64
    if ratio not in (1.0, 15 / 64):  # 15: no statement
        found["notes"] = (NOT_SQUARE.format(ratio, 1),)
    return found


def _png(image: Image.Image, file: File) -> dict[str, Any]:
    with opened(file) as stream:
        chunks = png.read_chunks(readable_png(stream)[0])  # without what the notes say is left out
    fields: dict[str, Any] = {"color": color_space.from_png(chunks), "notes": ()}
    if embedded := next((data for kind, data in chunks if kind == b"eXIf"), None):
        fields["exif"] = embedded
    text = []
    for chunk in chunks:
        if chunk[0] not in png.TEXT:
            continue
        key = chunk[1].partition(b"\0")[0]
        with contextlib.suppress(ValueError, zlib.error):  # damaged text is copied as it is
            value = png.text_of(chunk)[1] if key == png.XMP_KEY or key.startswith(RAW_PROFILE) else b""
            if key == png.XMP_KEY:
                fields["xmp"] = value
                continue
            if key.startswith(RAW_PROFILE) and (known := _raw_profile(png.raw_profile(value))):
                fields = known | fields
                continue
        text.append(chunk)
    if any(kind == b"caBX" for kind, _ in chunks):
        fields["notes"] += (CREDENTIALS,)
    others = dict.fromkeys(kind.decode() for kind, _ in chunks if kind[0] & 32 and kind not in READ_CHUNKS)
    if others:
        fields["notes"] += (f"PNG chunks that are not copied: {', '.join(others)}",)
    return fields | {"text": tuple(text)}


def _raw_profile(data: bytes) -> dict[str, bytes]:
    """Returns the field that a "Raw profile" of a PNG holds; {} for other contents."""
    if data.startswith((exif.PREFIX, b"II*\0", b"MM\0*")):
        return {"exif": data}
    if data.startswith(jpeg_segments.XMP_PREFIX):
        return {"xmp": data[len(jpeg_segments.XMP_PREFIX) :]}
    if data.lstrip().startswith((b"<?xpacket", b"<x:xmpmeta", b"<rdf:RDF")):
        return {"xmp": data}
    block = data.removeprefix(jpeg_segments.PHOTOSHOP_PREFIX)
    if data[:1] == b"\x1c":
        block = jpeg_segments.resource_of_iptc(data)
    kept = jpeg_segments.kept_resources(block)
    return {"photoshop": kept} if kept else {}


def _tiff(image: Image.Image | None, file: File) -> dict[str, Any]:
    tags = tiff_tags.read_tags(file)
    data = {tag: value.data for tag, value in tags.items() if isinstance(value, tiff_tags.Value)}
    photoshop = jpeg_segments.kept_resources(data.get(tiff_tags.PHOTOSHOP, b""))
    records = data.get(tiff_tags.IPTC)
    if records and not (photoshop and jpeg_segments.iptc_of(photoshop)):
        photoshop = jpeg_segments.resource_of_iptc(records) + (photoshop or b"")
    unit = (tiff_tags.numbers(tags.get(296)) or (2,))[0]
    per_inch = {2: 1.0, 3: 2.54}.get(int(unit))
    resolution = [tiff_tags.numbers(tags.get(tag)) for tag in (282, 283)]
    dpi = [values[0] * per_inch for values in resolution if values] if per_inch else None
    copied = [(tag, value) for tag, value in tags.items() if tag in tiff_tags.COPIED]
    notes = tiff_tags.uncopied_tags(tags)
    if not per_inch and all(resolution) and resolution[0] != resolution[1]:
        notes.append(NOT_SQUARE.format(resolution[0][0], resolution[1][0]))
    rotated = tiff_tags.numbers(tags.get(exif.ORIENTATION)) not in ((), (1,))
    if rotated and any(tag in geotiff.GEO_TAGS for tag, _ in copied):
        copied = [(tag, value) for tag, value in copied if tag not in geotiff.GEO_TAGS]
        notes.append("its place on the map (GeoTIFF) is not copied, because the image is rotated")
    return {
        "icc": data.get(tiff_tags.ICC),
        "exif": tiff_tags.exif_block(tags),
        "xmp": data.get(tiff_tags.XMP),
        "photoshop": photoshop,
        "dpi": _resolution(dpi),
        "tiff_tags": tuple((tag, value) for tag, value in copied if isinstance(value, tiff_tags.Value)),
        "notes": tuple(notes),
    }


def _avif(image: Image.Image, file: File) -> dict[str, Any]:
    data = read_bytes(file)
    codes = isobmff.color_of(data)
    notes = (GAIN_MAP,) * isobmff.has_item(data, b"tmap")
    fields = {"exif": isobmff.exif_of(data) or image.info.get("exif"), "notes": notes}
    return fields | _color(image, codes)


def _heif(image: Image.Image, file: File) -> dict[str, Any]:
    nclx, notes = image.info.get("nclx_profile") or {}, ()
    if any("hdrgainmap" in name for name in image.info.get("aux") or {}):
        notes += (GAIN_MAP,)
    if image.info.get("depth_images"):
        notes += ("the depth map is not copied",)
    codes = (nclx["color_primaries"], nclx["transfer_characteristics"]) if nclx else None
    return {"notes": notes} | _color(image, codes)


def _color(image: Image.Image, codes: tuple[int, int] | None) -> dict[str, Any]:
    """Returns the colour space of AVIF and HEIC: a profile has precedence over codes, except over those of HDR."""
    space = color_space.from_codes(*codes) if codes else None
    if image.info.get("icc_profile") and not (space and space.hdr):
        return {}
    return {"color": space, "icc": None}


def _jp2(image: Image.Image, file: File) -> dict[str, Any]:
    found: dict[str, Any] = {**jp2.metadata_of(read_bytes(file))}
    notes = ("its place on the map (GeoJP2) is not copied",) if found.pop("geo", None) else ()
    if records := found.pop("iptc", None):
        found["photoshop"] = jpeg_segments.resource_of_iptc(records)
    if exif.orientation(found.get("exif")) != 1:
        notes += ("the orientation in its EXIF is not applied, as in other programs",)
    return found | {"notes": notes, "comment": None}  # comments name the encoder


def png_chunks(picture: Picture) -> Iterator[bytes]:
    """Yields the PNG chunks of an image's metadata, to be placed before the samples."""
    chunks = list(color_space.to_png(picture.color)) if picture.color else []
    if picture.icc:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(picture.icc)))
    if picture.dpi:
        per_metre = [round(value / 0.0254) for value in picture.dpi]
        chunks.append((b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if picture.exif:
        chunks.append((b"eXIf", bytes(exif.block_of(picture.exif))))
    if picture.xmp:
        chunks.append(png.xmp_chunk(picture.xmp))
    if picture.comment:
        chunks.append((b"tEXt", b"Comment\0" + picture.comment.replace(b"\0", b"")))
    if picture.photoshop and (records := jpeg_segments.iptc_of(picture.photoshop)):
        chunks.append(png.raw_profile_chunk("iptc", records))
    for kind, data in (*chunks, *picture.text):
        yield png.encode_chunk(kind, data)
