"""`ImageError`, and short descriptions of errors in image files."""

from PIL import Image

from srgan_jax.runtime.atomic import NO_SPACE
from srgan_jax.runtime.errors import UserError


class ImageError(UserError):
    """A file can't be read as an image; the message is a short reason."""


def reason(error: Exception) -> str:
    """Returns a short description of an exception that reading or writing a file raised."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image in a known format"
    known = {PermissionError: "permission denied", FileNotFoundError: "no such file or folder"}
    if type(error) in known:
        return known[type(error)]
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return "no space left on the disk"
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__


def check_pixels(pixels: int, max_pixels: int) -> None:
    """Checks the number of pixels of an image.

    Raises:
      ImageError: the image has no pixels, or more than `max_pixels`.
    """
    if not pixels:
        raise ImageError("has no pixels")
    if pixels > max_pixels:
        raise ImageError(f"{pixels / 1e6:,.4g} megapixels, more than the limit of {max_pixels / 1e6:,.4g}")
