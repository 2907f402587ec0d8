"""Reading and writing of image files. All decoding and encoding of the package is here."""

from srgan_jax.images.bands import PNG_BANDS, decode_bands, encode_bands, read_bands, visible, write_bands
from srgan_jax.images.contact_sheet import side_by_side
from srgan_jax.images.decode import MAX_PIXELS, decode_image, image_size, is_gray, open_image, read_image
from srgan_jax.images.encode import encode_png, encode_webp, write_image
from srgan_jax.images.errors import ImageError, reason
from srgan_jax.images.find import SUFFIXES, broken_links, find_images, folders
from srgan_jax.images.formats import FORMATS, MAX_IN_MEMORY_BYTES, TIFFS, fit_format, format_of
from srgan_jax.images.picture import Picture
from srgan_jax.images.resampling import resize_rows
from srgan_jax.images.rgb import conversion, decode_rgb, read_rgb
from srgan_jax.images.tiff import write_tiff_pages

__all__ = [
    "FORMATS",
    "MAX_IN_MEMORY_BYTES",
    "MAX_PIXELS",
    "PNG_BANDS",
    "SUFFIXES",
    "TIFFS",
    "ImageError",
    "Picture",
    "broken_links",
    "conversion",
    "decode_bands",
    "decode_image",
    "decode_rgb",
    "encode_bands",
    "encode_png",
    "encode_webp",
    "find_images",
    "fit_format",
    "folders",
    "format_of",
    "image_size",
    "is_gray",
    "open_image",
    "read_bands",
    "read_image",
    "read_rgb",
    "reason",
    "resize_rows",
    "side_by_side",
    "visible",
    "write_bands",
    "write_image",
    "write_tiff_pages",
]
