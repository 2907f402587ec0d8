"""A degradation that imitates everyday photographs: mild blur, shrinking, mild noise, and JPEG."""

import jax
import jax.numpy as jnp

from srgan_jax.degradations import filters
from srgan_jax.degradations.jpeg import jpeg_unaligned
from srgan_jax.ops import color

BLUR_RADIUS_PX = 6  # four times the largest std of the blur


def photo(
    key: jax.Array,
    hr: jax.Array,
    *,
    scale: int,
    kernels: tuple[str, ...] = ("bicubic", "area", "bilinear"),
    blur_sigma_px: tuple[float, float] = (0.0, 1.5),
    noise: tuple[float, float] = (0.0, 5 / 255),
    jpeg_quality: tuple[float, float] = (40.0, 95.0),
    jpeg_share: float = 0.75,
) -> jax.Array:
    """Returns an LR image with blur, shrinking, noise and JPEG (4:2:0 chroma); their strengths are uniformly random.

    A fraction of the images gets no JPEG: a generator trained on 4:2:0 only coloured dark lines in clean images.

    Args:
      key: random key.
      hr: `[H, W, 3]` in [0, 1].
      scale: HR pixels per LR pixel.
      kernels: names in `filters.RESIZING_KERNELS`, chosen with equal probability.
      blur_sigma_px: smallest and largest std of the Gaussian blur, in HR pixels, at most 1.5.
      noise: smallest and largest std of the Gaussian noise added to LR; 1 is the full range of values.
      jpeg_quality: smallest and largest, 1 to 100.
      jpeg_share: fraction of the images that get JPEG, between 0 and 1; the others keep chroma at full resolution.

    Returns:
      `[H / scale, W / scale, 3]` in [0, 1], multiples of 1/255.
    """
    keys = jax.random.split(key, 6)
    sigma = filters.uniform(keys[0], blur_sigma_px)
    size = (hr.shape[0] // scale, hr.shape[1] // scale)
    shrink = filters.random_resize_matrices(keys[1], tuple(kernels), hr.shape[:2], size, 1.0 / scale)
    rows, columns = (
        jnp.matmul(matrix, filters.gaussian_matrix(side, sigma, BLUR_RADIUS_PX), precision="highest")
        for matrix, side in zip(shrink, hr.shape[:2], strict=True)
    )
    lr = filters.apply_matrices(rows, columns, hr)
    lr = lr + filters.uniform(keys[2], noise) * jax.random.normal(keys[3], lr.shape)
    lr = color.quantize(lr)
    compressed = jpeg_unaligned(keys[4], lr, filters.uniform(keys[5], jpeg_quality))
    return jnp.where(jax.random.bernoulli(jax.random.fold_in(key, 6), jpeg_share), compressed, lr)


def photo_radius_px(*, scale: int, **_: object) -> int:
    """Returns the HR pixels around a crop that LR depends on: blur, shrinking kernel, a JPEG block of 16 LR pixels."""
    return BLUR_RADIUS_PX + (2 + 16) * scale
