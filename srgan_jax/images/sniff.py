"""Recognition of image files by their first bytes, before any parser sees them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from srgan_jax.images.containers.jxl import is_jxl
from srgan_jax.images.errors import ImageError
from srgan_jax.images.files import is_open, opened

HEAD_BYTES = 64


class Kind(NamedTuple):
    """A format that is read.

    Attributes:
      name: Pillow's name of the format, except "RAW" (camera raw) and "JXL" (JPEG XL).
      matches: whether the first bytes of a file are those of this format.
      suffix: of the format in which results are written.
      only: the suffixes that a file must have, for formats whose first bytes are too common; empty for the others.
      extra: the extra that reading needs, in addition to an installation without extras.
    """

    name: str
    matches: Callable[[bytes], bool]
    suffix: str = ".png"
    only: tuple[str, ...] = ()
    extra: str = ""


def _begins(*signatures: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(signatures)


def _u32(head: bytes, offset: int) -> int:
    return int.from_bytes(head[offset : offset + 4], "little")


def _has_bitmap_header(head: bytes, offset: int) -> bool:
    """Returns whether a Windows bitmap header is at `offset`: a known length, and one plane."""
    length = _u32(head, offset)
    planes = offset + (8 if length == 12 else 12)
    return length in (12, 16, 40, 52, 56, 64, 108, 124) and head[planes : planes + 2] in (b"\1\0", b"\0\0")


def _has_brand(*brands: bytes) -> Callable[[bytes], bool]:
    """Returns whether an ISO media file (`ftyp`) names one of these brands, the first of which decides."""

    def matches(head: bytes) -> bool:
        if head[4:8] != b"ftyp":
            return False
        end = min(int.from_bytes(head[:4], "big"), HEAD_BYTES)
        named = [head[8:12], *(head[start : start + 4] for start in range(16, end - 3, 4))]
        known = [brand for brand in named if brand in (*AVIF_BRANDS, *HEIF_BRANDS)]
        return bool(known) and known[0] in brands

    return matches


AVIF_BRANDS = (b"avif", b"avis")
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
GENERAL_BRANDS = (b"mif1", b"msf1", b"mif2", b"miaf")  # of HEIF files whatever their codec


def _is_general_heif(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in GENERAL_BRANDS


def _is_tga(head: bytes) -> bool:
    """Returns whether the 18 bytes of a TGA header have possible values."""
    if len(head) < 18:
        return False
    kind, depth = head[2], head[16]
    size = int.from_bytes(head[12:14], "little"), int.from_bytes(head[14:16], "little")
    return head[1] in (0, 1) and kind in (1, 2, 3, 9, 10, 11) and depth in (1, 8, 15, 16, 24, 32) and all(size)


def _is_pcx(head: bytes) -> bool:
    return len(head) > 4 and head[0] == 10 and head[1] in (0, 2, 3, 5) and head[2] == 1 and head[3] in (1, 2, 4, 8)


RAW_TIFFS = (".dng", ".nef", ".nrw", ".cr2", ".arw", ".srf", ".sr2", ".pef", ".srw", ".erf", ".kdc", ".dcr", ".3fr",
             ".fff", ".iiq", ".mef", ".mos", ".rwl", ".gpr", ".k25")  # fmt: skip
RAW = Kind("RAW", lambda head: head[4:12] == b"ftypcrx " or head[8:10] == b"CR" or head.startswith((
    b"IIU\0", b"IIRO", b"IIRS", b"MMOR", b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM", b"II\x1a\0\0\0HEAPCCDR")),
    extra="raw")  # fmt: skip
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
KINDS = (
    Kind("PNG", _begins(b"\x89PNG\r\n\x1a\n")),
    Kind("JPEG", _begins(b"\xff\xd8\xff"), ".jpg"),
    Kind("GIF", _begins(b"GIF87a", b"GIF89a")),
    Kind("WEBP", lambda head: head.startswith(b"RIFF") and head[8:12] == b"WEBP", ".webp"),
    RAW,
    Kind("TIFF", _begins(*TIFF_SIGNATURES), ".tif"),
    Kind("BMP", lambda head: head.startswith(b"BM") and _has_bitmap_header(head, 14), ".bmp"),
    Kind("JPEG2000", _begins(b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"), ".jp2"),
    Kind("AVIF", _has_brand(*AVIF_BRANDS), ".avif"),
    Kind("HEIF", lambda head: _has_brand(*HEIF_BRANDS)(head) or _is_general_heif(head), ".jpg", extra="heic"),
    Kind("JXL", is_jxl, ".jxl"),
    Kind("PSD", _begins(b"8BPS\0\1")),
    Kind("QOI", _begins(b"qoif")),
    Kind("SGI", _begins(b"\x01\xda\0\1", b"\x01\xda\0\2", b"\x01\xda\1\1", b"\x01\xda\1\2")),
    Kind("PPM", lambda head: head[:2] in (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf") and head[2:3].isspace(),
         ".ppm", only=(".ppm", ".pgm", ".pbm", ".pnm", ".pfm")),
    Kind("DIB", lambda head: _has_bitmap_header(head, 0), ".bmp", only=(".dib",)),
    Kind("PCX", _is_pcx, only=(".pcx",)),
    Kind("TGA", _is_tga, ".tga", only=(".tga", ".icb", ".vda", ".vst")),
)  # fmt: skip


def _is_video(head: bytes) -> bool:
    """Returns whether a file is of MP4's family (and no image), Matroska, WebM, AVI, ASF (WMV), FLV or MPEG."""
    others = (b"\x1a\x45\xdf\xa3", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", b"FLV\1", b"\0\0\1\xba")
    return head[4:8] in (b"ftyp", b"moov") or head.startswith(others) or (head[:4], head[8:12]) == (b"RIFF", b"AVI ")


# Formats that are not read: how to recognise them, and the advice in the error message.
REFUSED = {
    "video": (_is_video, "give the video by its name, with a video's suffix: srgan-jax upscale film.mp4"),
    "HTML": (lambda head: head.lstrip().lower().startswith((b"<!doctype html", b"<html")),
             "it is a page, not the image on it; download the image itself"),
    "SVG": (lambda head: head.lstrip().startswith(b"<svg"), "it is drawn at any size without upscaling"),
    "XML": (lambda head: head.lstrip().startswith(b"<?xml"),
            "an SVG is drawn at any size without upscaling; another text may be a server's error, saved as the image"),
    "OpenEXR": (_begins(b"v/1\1"), "convert it to a TIFF or PNG of 16 bits first"),
    "PostScript": (_begins(b"%!", b"\xc5\xd0\xd3\xc6", b"\x04%!"), "it is a program that draws an image"),
    "PDF": (_begins(b"%PDF"), "convert its pages to images first: pdftoppm -png"),
    "PSB": (_begins(b"8BPS\0\2"), "save it as PSD, PNG or TIFF"),
}  # fmt: skip


def head_of(file: str | os.PathLike | BinaryIO) -> bytes:
    """Returns the first bytes of a file; an open file stays at its beginning."""
    with opened(file) as stream:
        head = stream.read(HEAD_BYTES)
        stream.seek(0)
        return head


def recognize(head: bytes, suffix: str = "") -> Kind | None:
    """Returns the kind of a file by its first bytes; None if it is no image.

    Args:
      head: the first `HEAD_BYTES` bytes.
      suffix: of the file's name, in lower case; "" if it has no name.
    """
    kind = next((kind for kind in KINDS if kind.matches(head) and (not kind.only or suffix in ("", *kind.only))), None)
    return RAW if kind and kind.name == "TIFF" and suffix in RAW_TIFFS else kind


def kind_of(file: str | os.PathLike | BinaryIO) -> Kind:
    """Returns the kind of an image file by its content.

    Raises:
      ImageError: the content is in none of the formats of `KINDS`.
      OSError: the file can't be read.
    """
    head = head_of(file)
    name = getattr(file, "name", "") if is_open(file) else file
    suffix = Path(name).suffix.lower() if isinstance(name, str | os.PathLike) else ""
    if kind := recognize(head, suffix):
        return kind
    for name, (matches, advice) in REFUSED.items():
        if matches(head):
            raise ImageError(f"{name} is not read: {advice}")
    raise ImageError("not an image in a known format" if head else "an empty file")
