"""The second-order degradation of Real-ESRGAN (Wang et al., arXiv 2107.10833, section 3).

It applies blur, resizing, noise and JPEG twice, and a sinc filter at the end. The image sizes inside are random, but
array shapes are static: a smaller image is centred in its array and padded with its outermost pixels.
"""

import math

import jax
import jax.numpy as jnp

from srgan_jax.degradations import filters
from srgan_jax.degradations.jpeg import jpeg_unaligned
from srgan_jax.ops import color

KERNEL_PX = 21  # side of all blur kernels
RESIZINGS = ("area", "bilinear", "bicubic")
Bounds = tuple[float, float]


def random_kernel(key: jax.Array, sigma_px: Bounds, betas: tuple[Bounds, Bounds], sinc_probability: float) -> jax.Array:
    """Returns a random blur kernel `[21, 21]`.

    Gaussian with probability 0.7, generalised Gaussian 0.15, plateau-shaped 0.15; each isotropic with probability 0.6.
    A sinc filter replaces it with probability `sinc_probability`.

    Args:
      key: random key.
      sigma_px: smallest and largest std of the Gaussian, in pixels.
      betas: ranges of the exponent of the generalised and of the plateau-shaped kernel.
      sinc_probability: probability of a sinc filter, between 0 and 1.
    """
    keys = jax.random.split(key, 8)
    kind = filters.random_choice(keys[0], (0.7, 0.15, 0.15))  # Gaussian, generalised Gaussian, plateau-shaped
    beta = jnp.stack([1.0, filters.uniform(keys[1], betas[0]), filters.uniform(keys[2], betas[1])])[kind]
    sigma_x, sigma_y = (filters.uniform(key, sigma_px) for key in keys[3:5])
    isotropic = jax.random.bernoulli(keys[5], 0.6)
    angle = filters.uniform(keys[6], (-math.pi, math.pi))
    gaussian = filters.gaussian_kernel(
        KERNEL_PX, sigma_x, jnp.where(isotropic, sigma_x, sigma_y), angle, beta=beta, plateau=kind == 2
    )
    use_sinc, cutoff = (jax.random.fold_in(keys[7], number) for number in (0, 1))
    sinc = filters.sinc_kernel(KERNEL_PX, filters.uniform(cutoff, (math.pi / 3, math.pi)))
    return jnp.where(jax.random.bernoulli(use_sinc, sinc_probability), sinc, gaussian)


def random_factor(key: jax.Array, probabilities: tuple[float, float, float], bounds: Bounds) -> jax.Array:
    """Returns a random resizing factor.

    Args:
      key: random key.
      probabilities: of enlarging (factor uniform in [1, `bounds[1]`]), of shrinking (uniform in [`bounds[0]`, 1]), and
        of keeping the size (factor 1).
      bounds: smallest and largest factor.
    """
    kind, up, down = jax.random.split(key, 3)
    factors = [filters.uniform(up, (1.0, bounds[1])), filters.uniform(down, (bounds[0], 1.0)), 1.0]
    return jnp.stack(factors)[filters.random_choice(kind, probabilities)]


def add_noise(
    key: jax.Array, image: jax.Array, gaussian: Bounds, poisson: Bounds, gray_probability: float
) -> jax.Array:
    """Returns `image` with Gaussian noise or with approximated Poisson noise, each with probability 0.5.

    Poisson noise is approximated by Gaussian noise of std `factor * sqrt(image / 255)`.

    Args:
      key: random key.
      image: `[H, W, 3]` in [0, 1].
      gaussian: smallest and largest std; 1 is the full range of values.
      poisson: smallest and largest factor of the Poisson std.
      gray_probability: probability that all channels get the same noise.
    """
    keys = jax.random.split(key, 5)
    noise = jax.random.normal(keys[0], image.shape)
    noise = jnp.where(jax.random.bernoulli(keys[1], gray_probability), noise[..., :1], noise)
    photon_std = filters.uniform(keys[2], poisson) * jnp.sqrt(jnp.clip(image, 0.0, 1.0) / 255.0)
    std = jnp.where(jax.random.bernoulli(keys[3], 0.5), filters.uniform(keys[4], gaussian), photon_std)
    return image + std * noise


def second_order(
    key: jax.Array,
    hr: jax.Array,
    *,
    scale: int,
    blur_sigma_px: tuple[Bounds, Bounds] = ((0.2, 3.0), (0.2, 1.5)),
    resize: tuple[Bounds, Bounds] = ((0.15, 1.5), (0.3, 1.2)),
    noise: tuple[Bounds, Bounds] = ((1 / 255, 30 / 255), (1 / 255, 25 / 255)),
    poisson: tuple[Bounds, Bounds] = ((0.05, 3.0), (0.05, 2.5)),
    jpeg_quality: tuple[Bounds, Bounds] = ((30.0, 95.0), (30.0, 95.0)),
) -> jax.Array:
    """Returns the LR image of Real-ESRGAN's second-order degradation (arXiv 2107.10833).

    The defaults are the published ranges. Simplified: kernels always have 21 px (published: 7 to 21), the probabilities
    of their shapes are rounded, and Poisson noise is Gaussian noise of the same variance.

    Args:
      key: random key.
      hr: `[H, W, 3]` in [0, 1].
      scale: HR pixels per LR pixel.
      blur_sigma_px: range of the Gaussian blur's std in pixels, of the first and the second pass; so are the others.
      resize: range of the resizing factor; in the second pass relative to the size of LR.
      noise: range of the Gaussian noise's std; 1 is the full range of values.
      poisson: range of the factor of Poisson noise.
      jpeg_quality: range of the JPEG quality, 1 to 100.

    Returns:
      `[H / scale, W / scale, 3]` in [0, 1], multiples of 1/255.
    """
    keys = jax.random.split(key, 12)
    lr_size = tuple(side // scale for side in hr.shape[:2])
    x = filters.blur(hr, random_kernel(keys[0], blur_sigma_px[0], ((0.5, 4.0), (1.0, 2.0)), 0.1))
    first = random_factor(keys[1], (0.2, 0.7, 0.1), resize[0])
    x = _resized(keys[2], x, _canvas(hr.shape, resize[0][1]), first)
    x = jnp.clip(add_noise(keys[3], x, noise[0], poisson[0], 0.4), 0.0, 1.0)
    x = jpeg_unaligned(keys[4], x, filters.uniform(keys[5], jpeg_quality[0]))

    blurred = filters.blur(x, random_kernel(keys[6], blur_sigma_px[1], ((0.5, 4.0), (1.0, 2.0)), 0.1))
    x = jnp.where(jax.random.bernoulli(jax.random.fold_in(keys[6], 99), 0.8), blurred, x)
    second = random_factor(keys[7], (0.3, 0.4, 0.3), resize[1])
    x = _resized(keys[8], x, _canvas(lr_size, resize[1][1]), second / (scale * first))
    x = jnp.clip(add_noise(keys[9], x, noise[1], poisson[1], 0.4), 0.0, 1.0)
    return _final_pass(keys[10], keys[11], x, lr_size, second, jpeg_quality[1])


def _canvas(size: tuple[int, ...], factor: float) -> tuple[int, int]:
    height, width = (math.ceil(side * max(factor, 1.0)) for side in size[:2])
    return height, width


def _resized(key: jax.Array, x: jax.Array, size: tuple[int, int], factor: jax.Array) -> jax.Array:
    return filters.apply_matrices(*filters.random_resize_matrices(key, RESIZINGS, x.shape[:2], size, factor), x)


def _final_pass(key, order_key, x, size, factor, quality):
    """Returns the final LR image: resized, sinc filter and JPEG in random order, rounded to 8 bits."""
    keys = jax.random.split(key, 5)
    x = _resized(keys[0], x, size, 1.0 / factor)
    cutoff = filters.uniform(keys[1], (math.pi / 3, math.pi))
    ringing = filters.sinc_kernel(KERNEL_PX, cutoff)
    identity = jnp.zeros_like(ringing).at[KERNEL_PX // 2, KERNEL_PX // 2].set(1.0)
    ringing = jnp.where(jax.random.bernoulli(keys[2], 0.8), ringing, identity)
    jpeg_first = jax.random.bernoulli(order_key)
    before = jnp.where(jpeg_first, x, jnp.clip(filters.blur(x, ringing), 0.0, 1.0))
    compressed = jpeg_unaligned(keys[3], before, filters.uniform(keys[4], quality))
    return color.quantize(jnp.where(jpeg_first, filters.blur(compressed, ringing), compressed))


def second_order_radius_px(*, scale: int, **_: object) -> int:
    """Returns the HR pixels around a crop that LR depends on.

    The sum of the first blur's radius and, in LR pixels, of the sinc filter, a JPEG block and the shrinking kernel.
    Not included: the second blur and the first JPEG block, whose radius grows when the first pass shrinks the image.
    """
    return KERNEL_PX // 2 + (KERNEL_PX // 2 + 16 + 2) * scale
