"""Filters from which degradations are built: blur, and resizing by a traced factor; for one image `[H, W, 3]` each.

Images are padded with their outermost pixels. Array shapes are static; only values (factors, stds) may be random.
"""

import jax
import jax.numpy as jnp

from srgan_jax.ops import kernels
from srgan_jax.runtime.errors import lookup

HIGHEST = jax.lax.Precision.HIGHEST


def blur(image: jax.Array, kernel: jax.Array) -> jax.Array:
    """Filters each channel of `[H, W, 3]` with `kernel [K, K]`, K odd; by FFT, as each sample has its own kernel."""
    height, width = image.shape[:2]
    radius = kernel.shape[0] // 2
    padded = jnp.pad(image, ((radius, radius), (radius, radius), (0, 0)), mode="edge")
    size = padded.shape[:2]
    # Correlation rather than convolution: the kernel's spectrum is conjugated.
    product = jnp.fft.rfft2(padded, axes=(0, 1)) * jnp.conj(jnp.fft.rfft2(kernel, s=size))[..., None]
    return jnp.fft.irfft2(product, s=size, axes=(0, 1))[:height, :width]


def gaussian_matrix(size: int, sigma: jax.Array | float, radius: int) -> jax.Array:
    """Returns the Gaussian blur of one axis, truncated at `radius` samples: a matrix `[size, size]`, rows sum to 1."""
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
    """Returns a Gaussian kernel `[size, size]`, or one of the two generalised kernels of Real-ESRGAN; it sums to 1.

    Args:
      size: side in pixels, odd.
      sigma_x: std along the rotated x axis, in pixels; 0 gives no blur.
      sigma_y: std along the rotated y axis, in pixels.
      angle: of rotation, in radians.
      beta: exponent of the generalised Gaussian; 1 gives the Gaussian.
      plateau: weight of `1 / (1 + d^beta)`, from 0 to 1; `exp(-d^beta / 2)` has the weight `1 - plateau`.
    """
    positions = jnp.arange(size) - size // 2
    y, x = jnp.meshgrid(positions, positions, indexing="ij")
    along, across = jnp.cos(angle) * x + jnp.sin(angle) * y, jnp.cos(angle) * y - jnp.sin(angle) * x
    distance = jnp.square(along / jnp.maximum(sigma_x, 1e-2)) + jnp.square(across / jnp.maximum(sigma_y, 1e-2))
    powered = jnp.where(distance > 0, jnp.power(jnp.maximum(distance, 1e-12), beta), 0.0)
    kernel = (1.0 - plateau) * jnp.exp(-0.5 * powered) + plateau / (1.0 + powered)
    return kernel / kernel.sum()


def sinc_kernel(size: int, cutoff: jax.Array) -> jax.Array:
    """Returns Real-ESRGAN's circular low-pass filter `[size, size]` (equation 6), which causes ringing artefacts.

    Args:
      size: side in pixels, odd.
      cutoff: frequency in radians per pixel, at most pi.
    """
    positions = jnp.arange(size) - size // 2
    y, x = jnp.meshgrid(positions, positions, indexing="ij")
    radius = jnp.sqrt(jnp.square(x) + jnp.square(y)).astype(jnp.float32)
    positive = jnp.maximum(radius, 1e-6)
    kernel = jnp.where(
        radius > 0, cutoff * _bessel_j1(cutoff * positive) / (2 * jnp.pi * positive), cutoff**2 / (4 * jnp.pi)
    )
    return kernel / kernel.sum()


def _bessel_j1(x: jax.Array) -> jax.Array:
    """Returns the Bessel function of the first kind and order 1: the mean of `cos(t - x sin t)` over [0, pi]."""
    t = (jnp.arange(64) + 0.5) * (jnp.pi / 64)  # the midpoint rule converges exponentially for periodic integrands
    return jnp.cos(t - x[..., None] * jnp.sin(t)).mean(axis=-1)


RESIZING_KERNELS = {"bicubic": kernels.cubic, "bilinear": kernels.triangle, "area": kernels.box}


def resize_matrix(
    kernel: str, in_size: int, out_size: int, factor: jax.Array | float, *, antialias: bool = True
) -> jax.Array:
    """Returns the matrix that resizes one axis by `factor` about its centre.

    Args:
      kernel: a name in `RESIZING_KERNELS`.
      in_size: input samples.
      out_size: output samples; if they exceed `factor * in_size`, the outermost samples are repeated.
      factor: output samples per input sample; may be traced.
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
    """Applies `rows [h, H]` and `columns [w, W]` to `image [H, W, 3]`; returns `[h, w, 3]`."""
    image = jnp.einsum("oh,hwc->owc", rows, image, precision=HIGHEST)
    return jnp.einsum("pw,owc->opc", columns, image, precision=HIGHEST)


def random_choice(key: jax.Array, probabilities: tuple[float, ...]) -> jax.Array:
    """Returns a random index, drawn with `probabilities`, which need not sum to 1."""
    return jax.random.choice(key, len(probabilities), p=jnp.asarray(probabilities) / sum(probabilities))


def random_resize_matrices(
    key: jax.Array,
    kernels: tuple[str, ...],
    in_size: tuple[int, ...],
    out_size: tuple[int, ...],
    factor: jax.Array | float,
) -> tuple[jax.Array, jax.Array]:
    """Returns the matrices of rows and columns for one of `kernels`, chosen with equal probability."""
    index = jax.random.randint(key, (), 0, len(kernels))
    rows, columns = (
        jnp.stack([resize_matrix(kernel, before, after, factor) for kernel in kernels])[index]
        for before, after in zip(in_size, out_size, strict=True)
    )
    return rows, columns


def uniform(key: jax.Array, bounds: tuple[float, float]) -> jax.Array:
    """Returns a random number, uniform between the two `bounds`."""
    return jax.random.uniform(key, (), minval=bounds[0], maxval=bounds[1])
