"""Picture files to arrays and back: the one place that decodes and encodes."""

from srgan_jax.images.files import (
    SUFFIXES,
    ImageError,
    decode_rgb,
    encode_png,
    encode_webp,
    find_pictures,
    is_gray,
    picture_size,
    read_rgb,
    side_by_side,
    write_image,
)

__all__ = [
    "SUFFIXES",
    "ImageError",
    "decode_rgb",
    "encode_png",
    "encode_webp",
    "find_pictures",
    "is_gray",
    "picture_size",
    "read_rgb",
    "side_by_side",
    "write_image",
]
