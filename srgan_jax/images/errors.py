"""What is wrong with an image file, in a few words."""

from PIL import Image

from srgan_jax.runtime.errors import UserError


class ImageError(UserError):
    """A file that can't be read as a picture; the message is the reason, in a few words."""


def reason(error: Exception) -> str:
    """What is wrong with a file, in a few words, from what Pillow raised."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture in a known format"
    known = {PermissionError: "permission denied", FileNotFoundError: "no such file"}
    if type(error) in known:
        return known[type(error)]
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__


def check_pixels(pixels: int, max_pixels: int) -> None:
    """Refuses pictures without pixels, or with more than `max_pixels`.

    Raises:
      ImageError: so it is.
    """
    if not pixels:
        raise ImageError("has no pixels")
    if pixels > max_pixels:
        raise ImageError(f"{pixels / 1e6:,.4g} megapixels, more than the limit of {max_pixels / 1e6:,.4g}")
