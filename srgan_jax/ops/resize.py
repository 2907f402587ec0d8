"""MATLAB's `imresize` as two small matrices, one per axis.

"MATLAB bicubic" means three different conventions in the literature. A model trained on one and tested on another loses
PSNR. All three use the cubic kernel with a = -0.5, widened by the scale when shrinking (antialiasing), half-pixel
centres, rows first and columns second, and rounding half up:

    A  borders clamped, rounded to 8 bits between the two passes: the standard test sets (Set5, Set14, BSD100)
    B  borders mirrored, rounded to 8 bits between the two passes: SwinIR's sets
    C  borders mirrored, not rounded between the passes: BasicSR and the EDSR data
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax.ops import kernels
from srgan_jax.runtime.errors import lookup

KERNELS = {"bicubic": (kernels.cubic, 4.0), "bilinear": (kernels.triangle, 2.0)}  # function, support width
CONVENTIONS = {"A": ("clamp", True), "B": ("symmetric", True), "C": ("symmetric", False)}  # border, 8 bits between


def kernel_radius_px(scale: int) -> int:
    """Returns the radius of the bicubic shrinking kernel in HR pixels: 8 at x4."""
    return 2 * scale


@functools.lru_cache(maxsize=256)
def weight_matrix(in_size: int, out_size: int, kernel: str = "bicubic", border: str = "clamp") -> np.ndarray:
    """Returns the matrix that resizes one axis; follows `contributions` in MATLAB's imresize.m.

    Args:
      in_size: input samples.
      out_size: output samples.
      kernel: a name in `KERNELS`.
      border: "clamp" repeats the outermost sample, "symmetric" mirrors and includes the outermost sample twice.

    Returns:
      `[out_size, in_size]` float64, rows sum to 1.
    """
    function, width = lookup(KERNELS, kernel, "interpolation kernel")
    scale = out_size / in_size
    stretch = min(scale, 1.0)  # the kernel is widened when shrinking
    centre = (np.arange(out_size) + 0.5) / scale - 0.5
    taps = int(np.ceil(width / stretch)) + 2
    source = np.floor(centre - width / stretch / 2.0).astype(int)[:, None] + np.arange(taps)
    weights = stretch * function(stretch * (centre[:, None] - source))
    weights /= weights.sum(axis=1, keepdims=True)
    if border == "clamp":
        source = np.clip(source, 0, in_size - 1)
    else:
        source = source % (2 * in_size)
        source = np.where(source < in_size, source, 2 * in_size - 1 - source)
    matrix = np.zeros((out_size, in_size))
    np.add.at(matrix, (np.arange(out_size)[:, None], source), weights)
    return matrix


def resize(
    image: jax.Array | np.ndarray,
    size: tuple[int, int],
    *,
    convention: str = "A",
    kernel: str = "bicubic",
    levels: float = 255.0,
) -> jax.Array:  # fmt: skip
    """Resizes like MATLAB's `imresize`, with antialiasing when shrinking.

    Args:
      image: `[..., H, W, C]` float in [0, 1]. Conventions A and B reproduce 8-bit files: values are rounded to
        multiples of 1/255 first, between the passes and at the end.
      size: `(height, width)` of the result.
      convention: "A", "B" or "C", see the module docstring.
      kernel: "bicubic" or "bilinear".
      levels: 65535 for 16-bit files in place of 8-bit ones.

    Returns:
      `[..., height, width, C]` float32; A and B: in [0, 1]; C: may overshoot slightly, as with doubles in MATLAB.
    """
    border, eight_bit = lookup(CONVENTIONS, convention, "resizing convention")
    rows = weight_matrix(image.shape[-3], size[0], kernel, border)
    columns = weight_matrix(image.shape[-2], size[1], kernel, border)
    rows, columns = jnp.asarray(rows, jnp.float32), jnp.asarray(columns, jnp.float32)
    product = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    # In units of 1/255 every weight of x2 and x4 bicubic is a dyadic fraction and every sum is exact in float32.
    unit = levels if eight_bit else 1.0
    quantise = (lambda x: jnp.clip(jnp.floor(x + 0.5), 0.0, levels)) if eight_bit else (lambda x: x)
    x = quantise(jnp.asarray(image, jnp.float32) * unit)
    x = quantise(product("oh,...hwc->...owc", rows, x))
    x = quantise(product("ow,...hwc->...hoc", columns, x))
    return x / unit


def downscale(hr: jax.Array | np.ndarray, scale: int, *, convention: str = "A", levels: float = 255.0) -> jax.Array:
    """Returns the bicubic LR image of `hr`.

    Args:
      hr: `[..., H, W, C]` float in [0, 1]; H and W are multiples of `scale`.
      scale: HR pixels per LR pixel: 2, 3, 4, 8, ...
      convention: "A", "B" or "C", see the module docstring.
      levels: as for `resize`.

    Returns:
      `[..., H / scale, W / scale, C]` float32.

    Raises:
      ValueError: H or W is not a multiple of `scale`.
    """
    height, width = hr.shape[-3:-1]
    if height % scale or width % scale:
        raise ValueError(
            f"downscale by {scale}: expected a height and width that are multiples of {scale}, got {height} x {width}; "
            "crop the image first"
        )
    return resize(hr, (height // scale, width // scale), convention=convention, levels=levels)


def centre_crop(image: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Returns the centre of `image [N, H, W, C]`, with the height and width of `shape` (N, h, w, C)."""
    top, left = ((have - want) // 2 for have, want in zip(image.shape[1:3], shape[1:3], strict=True))
    return image[:, top : top + shape[1], left : left + shape[2]]
