"""Degradations, which make LR images from HR images on the device: `(key, hr, scale=, ...) -> lr`.

`hr` is `[H, W, 3]` in [0, 1]; the result is `[H / scale, W / scale, 3]` in [0, 1], multiples of 1/255 as in a file. To
add one, write the function and one that returns its radius in HR pixels, and add both to `DEGRADATIONS`.
"""

from collections.abc import Callable
from typing import NamedTuple

from srgan_jax.degradations.bicubic import bicubic, bicubic_of_original, bicubic_radius_px
from srgan_jax.degradations.bilinear import bilinear, bilinear_of_original, bilinear_radius_px
from srgan_jax.degradations.gaussian_blur import gaussian_blur, gaussian_blur_of_original, gaussian_blur_radius_px
from srgan_jax.degradations.photo import photo, photo_radius_px
from srgan_jax.degradations.second_order import second_order, second_order_radius_px
from srgan_jax.images import RGB, Bands
from srgan_jax.runtime.errors import UserError, lookup

__all__ = ["DEGRADATIONS", "Degradation", "options_for"]


class Degradation(NamedTuple):
    """An entry of `DEGRADATIONS`.

    Attributes:
      degrade: `(key, hr, *, scale, ...) -> lr`, for one image.
      radius_px: `(*, scale, ...) -> int`, the HR pixels around a crop that its LR image depends on.
      of_original: `(original [H, W, 3] uint8, size, ...) -> lr` uint8 of that height and width, on the host, for
        `config.data.lr_from_original`; None where there is no such function.
      any_bands: whether it takes images with any number of bands and has the option `levels` for 16-bit data; False
        for 8-bit RGB only.
    """

    degrade: Callable
    radius_px: Callable
    of_original: Callable | None = None
    any_bands: bool = False


DEGRADATIONS = {
    "bicubic": Degradation(bicubic, bicubic_radius_px, bicubic_of_original, any_bands=True),
    "bilinear": Degradation(bilinear, bilinear_radius_px, bilinear_of_original, any_bands=True),
    "gaussian_blur": Degradation(gaussian_blur, gaussian_blur_radius_px, gaussian_blur_of_original, any_bands=True),
    "photo": Degradation(photo, photo_radius_px),
    "second_order": Degradation(second_order, second_order_radius_px),
}


def options_for(name: str, bands: Bands) -> dict[str, float]:
    """Returns the options that a degradation needs for images of these bands: none for 8-bit RGB.

    Raises:
      UserError: no such degradation, or it takes 8-bit RGB only.
    """
    entry = lookup(DEGRADATIONS, name, "degradation")
    if bands == RGB:
        return {}
    if not entry.any_bands:
        able = ", ".join(other for other, entry in DEGRADATIONS.items() if entry.any_bands)
        raise UserError(
            f"the degradation {name} takes 8-bit RGB, but the data is {bands}; expected {able}, or LR images as files"
        )
    return {"levels": 2.0**bands.bits - 1}
