"""How LR images come about from HR images, on the device: `(key, hr, scale=, ...) -> lr`.

`hr` is `[H, W, 3]` in [0, 1]; the result is `[H / scale, W / scale, 3]` in [0, 1], multiples of 1/255 as in a file. A
new degradation is one function, what it reaches beyond a crop, and one line in `DEGRADATIONS`.
"""

from collections.abc import Callable
from typing import NamedTuple

from srgan_jax.degradations.bicubic import bicubic, bicubic_radius_px
from srgan_jax.degradations.gaussian_blur import gaussian_blur, gaussian_blur_radius_px
from srgan_jax.degradations.photo import photo, photo_radius_px
from srgan_jax.degradations.second_order import second_order, second_order_radius_px

__all__ = ["DEGRADATIONS", "Degradation"]


class Degradation(NamedTuple):
    """A way to make LR images.

    Attributes:
      degrade: `(key, hr, *, scale, ...) -> lr`, for one picture.
      radius_px: `(*, scale, ...) -> HR pixels` around a crop that its LR image depends on.
    """

    degrade: Callable
    radius_px: Callable


DEGRADATIONS = {
    "bicubic": Degradation(bicubic, bicubic_radius_px),
    "gaussian_blur": Degradation(gaussian_blur, gaussian_blur_radius_px),
    "photo": Degradation(photo, photo_radius_px),
    "second_order": Degradation(second_order, second_order_radius_px),
}
