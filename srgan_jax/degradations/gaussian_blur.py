"""A gaussian blur before bilinear shrinking."""

import jax

from srgan_jax.degradations import filters
from srgan_jax.ops import color


def gaussian_blur(
    key: jax.Array, hr: jax.Array, *, scale: int, size_px: int = 5, sigma_px: float = 4.0, antialias: bool = False
) -> jax.Array:
    """A gaussian blur cut to `size_px`, then bilinear shrinking.

    Args:
      key: unused, nothing is random here.
      hr: `[H, W, 3]` in [0, 1].
      scale: shrinking factor.
      size_px: side of the blur kernel, odd.
      sigma_px: its deviation.
      antialias: widen the bilinear kernel by the scale; without, as OpenCV does it, two samples an axis count.
    """
    del key
    size = (hr.shape[0] // scale, hr.shape[1] // scale)
    rows, columns = (
        filters.resize_matrix("bilinear", before, after, 1.0 / scale, antialias=antialias)
        @ filters.gaussian_matrix(before, sigma_px, size_px // 2)
        for before, after in zip(hr.shape[:2], size, strict=True)
    )
    return color.quantize(filters.apply_matrices(rows, columns, hr))


def gaussian_blur_radius_px(*, scale: int, size_px: int = 5, sigma_px: float = 4.0, antialias: bool = False) -> int:
    """The blur's half and the shrinking kernel's."""
    del sigma_px
    return size_px // 2 + (scale if antialias else 1)
