"""The segments of JPEG files that describe an image: XMP, IPTC, comments."""

import re
import struct
from collections.abc import Iterable, Iterator

XMP_PREFIX, EXTENDED_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
PHOTOSHOP_PREFIX = b"Photoshop 3.0\0"
MAX_SEGMENT = 65_533  # bytes without the length field
IPTC = 0x0404
KEPT_RESOURCES = (IPTC, 0x0425, 0x040A, 0x040B)  # IPTC, its digest, copyright flag, URL; others describe the file

READ = {  # beginnings of the segments that are read, or that say how the samples are stored
    "APP0": (b"JFIF\0", b"JFXX\0"),
    "APP1": (b"Exif\0", XMP_PREFIX, EXTENDED_XMP_PREFIX),
    "APP2": (b"ICC_PROFILE\0", b"MPF\0", ISO_GAIN_MAP),
    "APP12": (b"Ducky",),
    "APP13": (PHOTOSHOP_PREFIX,),
    "APP14": (b"Adobe",),
}
PATHS = range(2000, 2999)  # Photoshop resources


def others_of(segments: Iterable[tuple[str, bytes]]) -> list[str]:
    """Returns short names of the segments that are not read, such as thermal images: "APP1 FLIR"."""
    found = [
        (name, data) for name, data in segments if name != "COM" and not data.startswith(READ.get(name, b"\0\0\0"))
    ]
    words = ((name, re.match(rb"[ -~]{0,12}", data)) for name, data in found if b"c2pa" not in data[:200])
    names = [f"{name} {word[0].decode().strip() if word else ''}".strip() for name, word in words]
    blocks = [data[len(PHOTOSHOP_PREFIX) :] for _, data in segments if data.startswith(PHOTOSHOP_PREFIX)]
    if any(number in PATHS for number, _, _ in resources(b"".join(blocks))):
        names.append("clipping paths")
    return list(dict.fromkeys(names))


def after_image(data: bytes) -> bytes:
    """Returns what follows the image in a file, without padding: a camera's video or second image, for instance."""
    offset = 2
    while 0 <= offset < len(data) - 3:
        marker = data[offset + 1]
        if marker == 0xD9:
            return data[offset + 2 :].strip(b"\0\xff")
        if data[offset] != 0xFF or marker == 0xFF or marker in range(0xD0, 0xD8) or marker == 0:  # samples
            offset = data.find(b"\xff", offset + 1)
        else:
            offset += 2 + int.from_bytes(data[offset + 2 : offset + 4])
    return b""


def comment_of(segments: Iterable[tuple[str, bytes]]) -> bytes | None:
    """Returns the comments of a JPEG, joined by line breaks; None if it has none."""
    found = [data.rstrip(b"\0") for name, data in segments if name == "COM"]
    return b"\n".join(found) or None


def photoshop_of(segments: Iterable[tuple[str, bytes]]) -> bytes | None:
    """Returns the Photoshop resources that are kept, IPTC among them; None if there are none."""
    whole = b"".join(data[len(PHOTOSHOP_PREFIX) :] for _, data in segments if data.startswith(PHOTOSHOP_PREFIX))
    return kept_resources(whole)


def kept_resources(block: bytes) -> bytes | None:
    """Returns the resources of `KEPT_RESOURCES` in a block of Photoshop resources; None if there are none."""
    return b"".join(raw for number, raw, _ in resources(block) if number in KEPT_RESOURCES) or None


def resources(block: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yields number, all bytes, and data of each Photoshop resource, up to a damaged one."""
    offset = 0
    while block[offset : offset + 4] == b"8BIM" and offset + 12 <= len(block):
        (number,) = struct.unpack_from(">H", block, offset + 4)
        name = (block[offset + 6] + 2) // 2 * 2  # length byte and name, padded to an even number
        start = offset + 6 + name + 4
        if start > len(block):
            return
        (length,) = struct.unpack_from(">I", block, start - 4)
        end = start + length + length % 2
        if start + length > len(block):
            return
        yield number, block[offset:end], block[start : start + length]
        offset = end


def iptc_of(block: bytes) -> bytes | None:
    """Returns the IPTC records in a block of Photoshop resources; None if there are none."""
    return next((data for number, _, data in resources(block) if number == IPTC), None)


def without_iptc(block: bytes) -> bytes:
    """Returns a block of Photoshop resources without its IPTC records."""
    return b"".join(raw for number, raw, _ in resources(block) if number != IPTC)


def resource_of_iptc(records: bytes) -> bytes:
    """Returns the block of Photoshop resources that holds these IPTC records."""
    return b"8BIM" + struct.pack(">HHI", IPTC, 0, len(records)) + records + b"\0" * (len(records) % 2)


def extended_xmp_of(segments: Iterable[tuple[str, bytes]]) -> tuple[bytes, ...]:
    """Returns the segments that continue a long XMP packet, which refers to them by a checksum."""
    return tuple(data for name, data in segments if name == "APP1" and data.startswith(EXTENDED_XMP_PREFIX))


def encode(xmp: bytes | None, extended_xmp: Iterable[bytes], photoshop: bytes | None) -> bytes:
    """Returns the segments of XMP and of Photoshop resources, as bytes of a JPEG."""
    contents = [(0xFFE1, XMP_PREFIX + xmp)] if xmp else []
    contents += [(0xFFE1, data) for data in extended_xmp]
    contents += [(0xFFED, PHOTOSHOP_PREFIX + photoshop)] if photoshop else []
    return b"".join(struct.pack(">HH", marker, len(data) + 2) + data for marker, data in contents)
