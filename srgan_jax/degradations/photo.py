"""How people's photographs come about: shrunk by some program, a little soft, a little noisy, saved as JPEG."""

import jax
import jax.numpy as jnp

from srgan_jax.degradations import filters
from srgan_jax.degradations.jpeg import jpeg_unaligned
from srgan_jax.ops import color

BLUR_RADIUS_PX = 6  # four deviations of the softest blur


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
    """Blur, shrinking, noise and JPEG with 4:2:0 chroma, each drawn evenly from its range.

    A share stays without JPEG: a generator trained on 4:2:0 alone was seen to tint dark lines in clean pictures.

    Args:
      key: of all that is random.
      hr: `[H, W, 3]` in [0, 1].
      scale: shrinking factor.
      kernels: names in `filters.RESIZING_KERNELS`, each as likely.
      blur_sigma_px: smallest and largest deviation of the gaussian blur, in HR pixels, at most 1.5.
      noise: smallest and largest deviation of the gaussian noise, in LR.
      jpeg_quality: smallest and largest.
      jpeg_share: of the pictures that are saved as JPEG; the others keep chroma at full size.
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
    saved = jpeg_unaligned(keys[4], lr, filters.uniform(keys[5], jpeg_quality))
    return jnp.where(jax.random.bernoulli(jax.random.fold_in(key, 6), jpeg_share), saved, lr)


def photo_radius_px(*, scale: int, **_: object) -> int:
    """Of blur, shrinking kernel, and a JPEG block of 16 LR pixels."""
    return BLUR_RADIUS_PX + (2 + 16) * scale
