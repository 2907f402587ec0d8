"""What a format can hold of the metadata of an image, and their change with the size of the image."""

import dataclasses
import struct
from collections.abc import Collection

from srgan_jax.images import fit_color
from srgan_jax.images.containers import exif, geotiff, jpeg_segments, xmp
from srgan_jax.images.picture import Picture

NAMES = {  # fields of `Picture`, in the order in which they are named
    "exif": "EXIF",
    "xmp": "XMP",
    "extended_xmp": "extended XMP",
    "photoshop": "IPTC",
    "comment": "the comment",
    "text": "PNG text",
    "tiff_tags": "TIFF tags",
    "dpi": "the resolution",
}
EMPTY = {field: () if field in ("extended_xmp", "text", "tiff_tags") else None for field in NAMES}
SCREEN_DPI = (72.0, 96.0)  # dots per inch that programs write without a meaning


def stripped(picture: Picture) -> Picture:
    """Returns the image without metadata: with a colour profile, its colours are converted to sRGB."""
    picture, change = fit_color.convert_to_srgb(picture)
    notes = picture.notes + (f"--strip drops the colour profile: {change}",) * bool(change)
    return dataclasses.replace(picture, **EMPTY, notes=notes)


def fit(picture: Picture, suffix: str, holds: Collection[str]) -> tuple[Picture, list[str]]:
    """Returns the image with the metadata that a format holds, and a line that names the others.

    Args:
      picture: the image.
      suffix: of the file to be written, for the line.
      holds: the fields of `Picture` that the format holds.
    """
    lost = {field: getattr(picture, field) for field in NAMES if field not in holds and getattr(picture, field)}
    if suffix in (".jpg", ".jpeg", ".jpe"):
        lost |= _too_long_for_jpeg(picture)
    picture = dataclasses.replace(picture, **{field: EMPTY[field] for field in lost})
    names = [_name(field, value) for field, value in lost.items() if _matters(field, value)]
    notes = [f"{suffix} can't hold {', '.join(names)}: not copied"] if names else []
    if picture.exif and suffix in (".tif", ".tiff") and exif.entry_of(exif.block_of(picture.exif), exif.MAKER_NOTE):
        notes.append("the MakerNote of EXIF moves in a TIFF: programs may not find all of its values")
    return picture, notes


def _too_long_for_jpeg(picture: Picture) -> dict:
    """Returns the fields that are longer than a segment of a JPEG."""
    limits = {
        "exif": jpeg_segments.MAX_SEGMENT,
        "xmp": jpeg_segments.MAX_SEGMENT - len(jpeg_segments.XMP_PREFIX),
        "photoshop": jpeg_segments.MAX_SEGMENT - len(jpeg_segments.PHOTOSHOP_PREFIX),
        "comment": jpeg_segments.MAX_SEGMENT,
    }
    found = {field: getattr(picture, field) or b"" for field in limits}
    return {field: value for field, value in found.items() if len(value) > limits[field]}


def _matters(field: str, value) -> bool:
    return field != "dpi" or not all(round(resolution) in SCREEN_DPI for resolution in value)


def _name(field: str, value) -> str:
    if field == "text":
        keys = dict.fromkeys(data.partition(b"\0")[0].decode("latin-1") for _, data in value)
        return f"{NAMES[field]} ({', '.join(keys)})"
    if field == "tiff_tags" and any(tag in geotiff.GEO_TAGS for tag, *_ in value):
        return "GeoTIFF tags"
    if field in ("exif", "xmp", "photoshop", "comment") and len(value) > jpeg_segments.MAX_SEGMENT - 64:
        return f"{NAMES[field]} ({len(value)} bytes)"
    return NAMES[field]


def resized(picture: Picture, before: tuple[int, int], after: tuple[int, int]) -> Picture:
    """Returns the image with metadata for another size: height and width, before and after, in pixels."""
    return dataclasses.replace(
        sized(picture, after),
        xmp=xmp.resized(picture.xmp, before, after) if picture.xmp else None,
        tiff_tags=geotiff.resized(picture.tiff_tags, before, after),
    )


def sized(picture: Picture, size: tuple[int, int]) -> Picture:
    """Returns the image with this height and width in its EXIF; EXIF that is damaged is dropped."""
    if not picture.exif:
        return picture
    try:
        return dataclasses.replace(picture, exif=exif.with_size(picture.exif, *size))
    except (ValueError, struct.error):
        return dataclasses.replace(picture, exif=None)
