"""The second-order degradation of Real-ESRGAN (Wang et al., arXiv 2107.10833, section 3): blur, resize, noise and JPEG,
twice, and a ringing filter at the end. Sizes inside are random, arrays are not: a smaller picture lies in the middle of
its canvas, its outermost pixels repeated outwards.
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
    """A blur kernel `[21, 21]`: gaussians of all shapes, or the ringing filter with probability `sinc_probability`.

    Args:
      key: of all that is random.
      sigma_px: smallest and largest deviation.
      betas: ranges of the exponent of the generalised and of the plateau-shaped gaussian.
      sinc_probability: probability of a sinc filter.
    """
    keys = jax.random.split(key, 8)
    kind = filters.random_choice(keys[0], (0.7, 0.15, 0.15))  # the usual, generalised, plateau-shaped
    beta = jnp.stack([1.0, filters.uniform(keys[1], betas[0]), filters.uniform(keys[2], betas[1])])[kind]
    sigma_x, sigma_y = (filters.uniform(key, sigma_px) for key in keys[3:5])
    isotropic = jax.random.bernoulli(keys[5], 0.6)  # isotropic
    angle = filters.uniform(keys[6], (-math.pi, math.pi))
    gaussian = filters.gaussian_kernel(
        KERNEL_PX, sigma_x, jnp.where(isotropic, sigma_x, sigma_y), angle, beta=beta, plateau=kind == 2
    )
    use_sinc, cutoff = (jax.random.fold_in(keys[7], number) for number in (0, 1))
    sinc = filters.sinc_kernel(KERNEL_PX, filters.uniform(cutoff, (math.pi / 3, math.pi)))
    return jnp.where(jax.random.bernoulli(use_sinc, sinc_probability), sinc, gaussian)


def random_factor(key: jax.Array, probabilities: tuple[float, float, float], bounds: Bounds) -> jax.Array:
    """A factor of resizing: enlarged up to `bounds[1]`, shrunk down to `bounds[0]`, or kept, by `probabilities`."""
    kind, up, down = jax.random.split(key, 3)
    factors = [filters.uniform(up, (1.0, bounds[1])), filters.uniform(down, (bounds[0], 1.0)), 1.0]
    return jnp.stack(factors)[filters.random_choice(kind, probabilities)]


def add_noise(
    key: jax.Array, image: jax.Array, gaussian: Bounds, poisson: Bounds, gray_probability: float
) -> jax.Array:
    """Gaussian noise, or noise that grows with the light as a sensor's does; of one colour at times.

    Args:
      key: of all that is random.
      image: `[H, W, 3]` in [0, 1].
      gaussian: smallest and largest deviation.
      poisson: the same as a factor of `sqrt(value / 255)`, the deviation of counted photons (taken as gaussian).
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
    """Real-ESRGAN's training degradation, with the published ranges of the first and the second pass as defaults.

    Simplified: kernels always have 21 px (there 7 to 21), the probabilities of their shapes are rounded, and photons are
    counted as gaussian noise of their variance.

    Args:
      key: of all that is random.
      hr: `[H, W, 3]` in [0, 1].
      scale: shrinking factor.
      blur_sigma_px: of the gaussians.
      resize: smallest and largest factor, the second as a factor of the final size.
      noise: deviation of gaussian noise.
      poisson: factor of the noise that grows with the light.
      jpeg_quality: smallest and largest.
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
    """Back to the final size, ringing and JPEG, in either order."""
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
    """Of the first blur, and in the final size of the ringing filter, a JPEG block and the shrinking kernel.

    What the blur and the JPEG block of the first pass reach in a picture that it has shrunk a lot is not counted.
    """
    return KERNEL_PX // 2 + (KERNEL_PX // 2 + 16 + 2) * scale
