"""XMP packets: copied byte for byte, except for the values that upscaling and rotation change. ISO 16684-1."""

import re

ORIENTATION = ("tiff:Orientation",)
WIDTHS, HEIGHTS = ("tiff:ImageWidth", "exif:PixelXDimension"), ("tiff:ImageLength", "exif:PixelYDimension")
SCALED_WIDTHS = ("GPano:FullPanoWidthPixels", "GPano:CroppedAreaImageWidthPixels", "GPano:CroppedAreaLeftPixels")
SCALED_HEIGHTS = ("GPano:FullPanoHeightPixels", "GPano:CroppedAreaImageHeightPixels", "GPano:CroppedAreaTopPixels")
GAIN_MAPS = (b"http://ns.adobe.com/hdr-gain-map/1.0/", b"http://ns.apple.com/HDRGainMap/1.0/")


def _values(names: tuple[str, ...]) -> re.Pattern[bytes]:
    """Returns the pattern of whole numbers as attributes or elements of these names."""
    listed = "|".join(map(re.escape, names)).encode()
    return re.compile(rb"((?:" + listed + rb")(?:\s*=\s*[\"']|\s*>\s*))(\d+)")


def upright(xmp: bytes) -> bytes:
    """Returns the packet for an image that was rotated to be upright, without thumbnails and gain map.

    The marks of a gain map and of a motion photo are taken away, as the parts of the file that they announce are not
    copied; otherwise programs look for them.
    """
    xmp = _values(ORIENTATION).sub(rb"\g<1>1", xmp)
    xmp = re.sub(rb"<(xmp|xap):Thumbnails>.*?</\1:Thumbnails>", b"", xmp, flags=re.DOTALL)
    xmp = re.sub(rb"\shdrgm:Version\s*=\s*([\"']).*?\1", b"", xmp)
    return re.sub(rb"((?:GCamera|Camera):(?:MotionPhoto|MicroVideo)\s*=\s*[\"'])1", rb"\g<1>0", xmp)


def resized(xmp: bytes, before: tuple[int, int], after: tuple[int, int]) -> bytes:
    """Returns the packet for an image that was resized; the sizes are height and width in pixels."""
    for sizes, scaled, old, new in (
        (HEIGHTS, SCALED_HEIGHTS, before[0], after[0]),
        (WIDTHS, SCALED_WIDTHS, before[1], after[1]),
    ):
        xmp = _values(sizes).sub(rb"\g<1>%d" % new, xmp)
        ratio = new / old
        xmp = _values(scaled).sub(lambda match, r=ratio: match[1] + b"%d" % round(int(match[2]) * r), xmp)
    return xmp
