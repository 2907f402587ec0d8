"""Reading and writing of image files. All decoding and encoding of the package is here."""

from srgan_jax.images.bands import PNG_BANDS, RGB, Bands, decode_bands, encode_bands, read_bands, visible, write_bands
from srgan_jax.images.contact_sheet import side_by_side
from srgan_jax.images.decode import decode_image, image_size, is_gray, read_image
from srgan_jax.images.encode import encode_png, encode_webp, write_animation, write_image
from srgan_jax.images.errors import ImageError, reason
from srgan_jax.images.find import SUFFIXES, broken_links, find_images, folders, other_files
from srgan_jax.images.fit_metadata import stripped
from srgan_jax.images.formats import (
    FORMATS,
    MAX_IN_MEMORY_BYTES,
    TIFFS,
    can_state_colors,
    fit_format,
    format_of,
    result_suffix,
)
from srgan_jax.images.isolation import isolated_decoding
from srgan_jax.images.limits import MAX_PIXELS, MAX_SECONDS
from srgan_jax.images.picture import Frames, Picture, change_frames
from srgan_jax.images.pillow import kind_of_path, open_image
from srgan_jax.images.resampling import resize_rows
from srgan_jax.images.rgb import conversion, decode_rgb, read_rgb
from srgan_jax.images.tiff import write_tiff_pages

__all__ = [
    "FORMATS",
    "MAX_IN_MEMORY_BYTES",
    "MAX_PIXELS",
    "MAX_SECONDS",
    "PNG_BANDS",
    "RGB",
    "SUFFIXES",
    "TIFFS",
    "Bands",
    "Frames",
    "ImageError",
    "Picture",
    "broken_links",
    "can_state_colors",
    "change_frames",
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
    "isolated_decoding",
    "kind_of_path",
    "open_image",
    "other_files",
    "read_bands",
    "read_image",
    "read_rgb",
    "reason",
    "resize_rows",
    "result_suffix",
    "side_by_side",
    "stripped",
    "visible",
    "write_animation",
    "write_bands",
    "write_image",
    "write_tiff_pages",
]
