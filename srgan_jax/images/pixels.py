"""Conversion of frames that Pillow opened to arrays of gray, RGB and alpha."""

import contextlib
from io import BytesIO
from typing import Any, cast

import numpy as np
from PIL import Image, ImageCms, ImageOps

from srgan_jax.images import high_bit_depth
from srgan_jax.images.containers import exif
from srgan_jax.images.errors import ImageError
from srgan_jax.images.metadata import File, metadata_of, states_orientation
from srgan_jax.images.pillow import NOTES

BY_PROFILE = ("CMYK", "LAB")  # modes that are converted to RGB by the colour profile of the file


def orientation_of(image: Image.Image) -> int:
    """Returns the orientation in the EXIF; 1 where there is none, or it is damaged."""
    try:
        return image.getexif().get(exif.ORIENTATION, 1)
    except Exception:  # Pillow raises exceptions of many types
        return 1


def stated_orientation(image: Image.Image, file: File) -> int:
    """Returns the orientation of an image whose samples are not to be read: Pillow reads those of a PNG for it.

    Args:
      image: the file, opened by Pillow.
      file: the same file.
    """
    return orientation_of(image) if image.format != "PNG" or states_orientation(file) else 1


def current_frame(image: Image.Image) -> np.ndarray:
    """Returns the current frame as `[H, W, C]`, uint16 if it has 16 bits, otherwise uint8."""
    size = image.size
    image.load()
    if sorted(image.size) != sorted(size):  # the limits were applied to the header; Pillow turns some TIFFs
        raise ImageError(f"damaged: {size[0]} x {size[1]} pixels in the header, {image.width} x {image.height} decoded")
    if orientation_of(image) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":
        samples = np.asarray(image)
        if image.mode == "I":  # 32 bits; Pillow uses it for some 16-bit files
            if samples.min() < 0 or samples.max() > 65535:
                raise ImageError(f"32-bit samples from {samples.min()} to {samples.max()}; expected 0 to 65535")
            samples = samples.astype(np.uint16)
        return high_bit_depth.to_uint16(samples.astype(samples.dtype.newbyteorder("="), copy=False))[..., None]
    mode = _plain_mode(image)
    pixels = np.empty((image.height, image.width, len(mode)), np.uint8)
    # By bands of rows, so that only one copy of the image is in memory beside Pillow's own.
    for top in range(0, image.height, high_bit_depth.BAND_PX):
        band = image.crop((0, top, image.width, min(top + high_bit_depth.BAND_PX, image.height)))
        band.info = image.info  # its transparency
        band = _convert_by_profile(band) if image.mode in BY_PROFILE else band.convert(mode)
        pixels[top : top + high_bit_depth.BAND_PX] = np.asarray(band).reshape(band.height, band.width, len(mode))
    return pixels


def _plain_mode(image: Image.Image) -> str:
    """Returns the smallest lossless mode: L, LA, RGB or RGBA."""
    alpha = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    gray = image.mode in ("1", "L", "LA", "La")
    if image.mode == "P" and not image.info.get("icc_profile"):
        colours = np.array(image.getpalette("RGB") or [0, 0, 1]).reshape(-1, 3)
        gray = bool((colours == colours[:, :1]).all())
    return ("L" if gray else "RGB") + ("A" if alpha else "")


def _convert_by_profile(image: Image.Image) -> Image.Image:
    """Converts CMYK or Lab to sRGB, by the colour profile of the file if it has a suitable one."""
    if profile := image.info.get("icc_profile"):
        with contextlib.suppress(ImageCms.PyCMSError, OSError):
            return _to_srgb(image, ImageCms.ImageCmsProfile(BytesIO(profile)))
    if image.mode == "LAB":
        return _to_srgb(image, ImageCms.createProfile("LAB"))
    return image.convert("RGB")


def _to_srgb(image: Image.Image, profile: Any) -> Image.Image:
    converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return cast(Image.Image, converted)  # None only where Pillow converts in place


def fields_of(image: Image.Image, file: File) -> dict[str, Any]:
    """Returns the metadata of an image for `Picture`; `file` is what `image` was opened from."""
    fields = metadata_of(image, file)
    if image.mode in BY_PROFILE:
        fields |= {"icc": None, "color": None}  # the conversion has applied it
    return {**fields, "notes": (*fields.get("notes", ()), *image.info.get(NOTES, ()))}
