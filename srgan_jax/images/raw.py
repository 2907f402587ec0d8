"""Reading of camera raw (DNG, NEF, CR2, ARW, ...) with LibRaw, by the extra `raw`."""

import os
from typing import TYPE_CHECKING, BinaryIO

from srgan_jax.images.errors import ImageError, reason
from srgan_jax.images.files import is_open
from srgan_jax.images.limits import check_pixels
from srgan_jax.images.picture import Picture
from srgan_jax.runtime import extras

if TYPE_CHECKING:
    from rawpy import RawPy

SRGB_CURVE = (2.4, 12.92)  # power and slope at 0 of sRGB


def read_raw(file: str | os.PathLike | BinaryIO, max_pixels: int) -> Picture:
    """Returns a developed raw image: sRGB of 16 bits, with the camera's white balance, upright.

    Raises:
      ImageError: the extra isn't installed, the camera is unknown to LibRaw, damaged, or too large.
    """
    import_rawpy()
    from rawpy import ColorSpace, LibRawError

    try:
        with _open(file, max_pixels) as raw:
            raw.unpack()
            pixels = raw.postprocess(
                use_camera_wb=True, output_color=ColorSpace.sRGB, output_bps=16, gamma=SRGB_CURVE, no_auto_bright=False
            )
    except LibRawError as error:
        raise ImageError(f"camera raw: {_text(error)}") from None
    return Picture((pixels,), notes=("camera raw: developed with the camera's white balance, EXIF is not kept",))


def raw_size(file: str | os.PathLike | BinaryIO, max_pixels: int) -> tuple[int, int]:
    """Returns height and width of the image that `read_raw` gives; raises the same errors."""
    import_rawpy()
    from rawpy import LibRawError

    try:
        with _open(file, max_pixels) as raw:
            sizes = raw.sizes
            return (sizes.width, sizes.height) if sizes.flip in (5, 6) else (sizes.height, sizes.width)
    except LibRawError as error:
        raise ImageError(f"camera raw: {_text(error)}") from None


def import_rawpy() -> None:
    """Raises ImageError where the extra `raw` isn't installed."""
    if extras.missing("raw"):
        raise ImageError(
            'camera raw: reading it needs pip install "srgan-jax[raw]"; or develop it to TIFF in a raw converter first'
        )


def _open(file: str | os.PathLike | BinaryIO, max_pixels: int) -> "RawPy":
    from rawpy import RawPy

    raw = RawPy()
    if is_open(file):
        file.seek(0)
        raw.open_buffer(file)
    else:
        raw.open_file(os.fspath(file))
    check_pixels(raw.sizes.raw_width * raw.sizes.raw_height, max_pixels)
    return raw


def _text(error: Exception) -> str:
    message = error.args[0] if error.args else error
    return message.decode(errors="replace") if isinstance(message, bytes) else reason(error)
