"""What degradations are made of: blurs, resizing by a factor that is traced, noise. One picture at a time, `[H, W, 3]`.

Borders repeat the outermost pixels. Sizes are static; only values (factors, deviations) may be random.
"""

import jax
import jax.numpy as jnp

from srgan_jax.ops import kernels
from srgan_jax.runtime.errors import lookup

HIGHEST = jax.lax.Precision.HIGHEST


def blur(image: jax.Array, kernel: jax.Array) -> jax.Array:
    """Filters each channel of `[H, W, 3]` with `kernel [K, K]`, K odd; by FFT, which is quick for a kernel a sample."""
    height, width = image.shape[:2]
    radius = kernel.shape[0] // 2
    padded = jnp.pad(image, ((radius, radius), (radius, radius), (0, 0)), mode="edge")
    size = padded.shape[:2]
    # A correlation: the kernel's spectrum is conjugated.
    product = jnp.fft.rfft2(padded, axes=(0, 1)) * jnp.conj(jnp.fft.rfft2(kernel, s=size))[..., None]
    return jnp.fft.irfft2(product, s=size, axes=(0, 1))[:height, :width]


def gaussian_matrix(size: int, sigma: jax.Array | float, radius: int) -> jax.Array:
    """A gaussian blur of one axis, cut off `radius` samples away, as a matrix `[size, size]` whose rows sum to 1."""
    distance = jnp.abs(jnp.arange(size)[:, None] - jnp.arange(size)[None])
    weights = jnp.exp(-0.5 * jnp.square(distance / jnp.maximum(sigma, 1e-2))) * (distance <= radius)
    return weights / weights.sum(axis=1, keepdims=True)


def gaussian_kernel(
    size: int,
    sigma_x: jax.Array,
    sigma_y: jax.Array,
    angle: jax.Array | float = 0.0,
    *,
    beta: jax.Array | float = 1.0,
    plateau: jax.Array | float = 0.0,
) -> jax.Array:
    """A gaussian `[size, size]` that sums to 1, turned by `angle`, and its two relatives of Real-ESRGAN.

    Args:
      size: side, odd.
      sigma_x: deviation along the turned x axis, in pixels; 0 gives no blur.
      sigma_y: along the other.
      angle: radians.
      beta: exponent of the generalised gaussian, 1 for the usual one.
      plateau: 1 for `1 / (1 + d^beta)` in place of `exp(-d^beta / 2)`, between them a mixture.
    """
    positions = jnp.arange(size) - size // 2
    y, x = jnp.meshgrid(positions, positions, indexing="ij")
    along, across = jnp.cos(angle) * x + jnp.sin(angle) * y, jnp.cos(angle) * y - jnp.sin(angle) * x
    distance = jnp.square(along / jnp.maximum(sigma_x, 1e-2)) + jnp.square(across / jnp.maximum(sigma_y, 1e-2))
    powered = jnp.where(distance > 0, jnp.power(jnp.maximum(distance, 1e-12), beta), 0.0)
    kernel = (1.0 - plateau) * jnp.exp(-0.5 * powered) + plateau / (1.0 + powered)
    return kernel / kernel.sum()


def sinc_kernel(size: int, cutoff: jax.Array) -> jax.Array:
    """The circular low-pass filter of Real-ESRGAN (equation 6), which rings; `cutoff` in radians a pixel, up to pi."""
    positions = jnp.arange(size) - size // 2
    y, x = jnp.meshgrid(positions, positions, indexing="ij")
    radius = jnp.sqrt(jnp.square(x) + jnp.square(y)).astype(jnp.float32)
    positive = jnp.maximum(radius, 1e-6)
    kernel = jnp.where(
        radius > 0, cutoff * _bessel_j1(cutoff * positive) / (2 * jnp.pi * positive), cutoff**2 / (4 * jnp.pi)
    )
    return kernel / kernel.sum()


def _bessel_j1(x: jax.Array) -> jax.Array:
    """The Bessel function of the first kind and order 1: the mean of `cos(t - x sin t)` over [0, pi]."""
    t = (jnp.arange(64) + 0.5) * (jnp.pi / 64)  # the midpoint rule converges at once for a periodic integrand
    return jnp.cos(t - x[..., None] * jnp.sin(t)).mean(axis=-1)


RESIZING_KERNELS = {"bicubic": kernels.cubic, "bilinear": kernels.triangle, "area": kernels.box}


def resize_matrix(
    kernel: str, in_size: int, out_size: int, factor: jax.Array | float, *, antialias: bool = True
) -> jax.Array:
    """Resizing of one axis by `factor` about its centre, as a matrix.

    Args:
      kernel: a name in `RESIZING_KERNELS`.
      in_size: samples before.
      out_size: samples after; where they are more than `factor * in_size` the outermost repeat.
      factor: samples after for each before; may be traced.
      antialias: widen the kernel by `1 / factor` when shrinking.

    Returns:
      `[out_size, in_size]`, rows sum to 1.
    """
    function = lookup(RESIZING_KERNELS, kernel, "resizing kernel")
    middle = (jnp.arange(out_size) - (out_size - 1) / 2) / factor + (in_size - 1) / 2
    middle = jnp.clip(middle, 0.0, in_size - 1.0)
    stretch = jnp.minimum(factor, 1.0) if antialias else 1.0
    weights = function(jnp.abs(middle[:, None] - jnp.arange(in_size)[None]) * stretch)
    return weights / weights.sum(axis=1, keepdims=True)


def apply_matrices(rows: jax.Array, columns: jax.Array, image: jax.Array) -> jax.Array:
    """`rows [h, H]` and `columns [w, W]` on `image [H, W, 3]`: `[h, w, 3]`."""
    image = jnp.einsum("oh,hwc->owc", rows, image, precision=HIGHEST)
    return jnp.einsum("pw,owc->opc", columns, image, precision=HIGHEST)


def random_choice(key: jax.Array, probabilities: tuple[float, ...]) -> jax.Array:
    """The index of one of several, by their probabilities (which need not sum to 1)."""
    return jax.random.choice(key, len(probabilities), p=jnp.asarray(probabilities) / sum(probabilities))


def random_resize_matrices(
    key: jax.Array,
    kernels: tuple[str, ...],
    in_size: tuple[int, ...],
    out_size: tuple[int, ...],
    factor: jax.Array | float,
) -> tuple[jax.Array, jax.Array]:
    """The two matrices of one of `kernels`, each as likely."""
    index = jax.random.randint(key, (), 0, len(kernels))
    rows, columns = (
        jnp.stack([resize_matrix(kernel, before, after, factor) for kernel in kernels])[index]
        for before, after in zip(in_size, out_size, strict=True)
    )
    return rows, columns


def uniform(key: jax.Array, bounds: tuple[float, float]) -> jax.Array:
    """A number between two."""
    return jax.random.uniform(key, (), minval=bounds[0], maxval=bounds[1])
