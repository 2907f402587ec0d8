"""Differentiable JPEG compression: chroma subsampling, DCT and quantisation, and their inverses; no entropy coding."""

import jax
import jax.numpy as jnp
import numpy as np

HIGHEST = jax.lax.Precision.HIGHEST

# Annex K of the standard (ITU-T T.81), for quality 50.
LUMA_TABLE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
CHROMA_TABLE = np.full((8, 8), 99)
CHROMA_TABLE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
_FREQUENCY, _POSITION = np.arange(8)[:, None], np.arange(8)[None]
DCT = np.cos((2 * _POSITION + 1) * _FREQUENCY * np.pi / 16) * np.where(_FREQUENCY == 0, np.sqrt(1 / 8), 0.5)
TO_YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])  # JFIF
TO_RGB = np.array([[1.0, 0.0, 1.402], [1.0, -0.344136, -0.714136], [1.0, 1.772, 0.0]])


def quantisation_tables(quality: jax.Array | float) -> tuple[jax.Array, jax.Array]:
    """Returns libjpeg's quantisation tables `[8, 8]` of luma and chroma for a quality from 1 to 100."""
    percent = jnp.where(quality < 50, jnp.floor(5000.0 / quality), 200.0 - 2.0 * quality)
    luma, chroma = (
        jnp.clip(jnp.floor((table * percent + 50.0) / 100.0), 1.0, 255.0) for table in (LUMA_TABLE, CHROMA_TABLE)
    )
    return luma, chroma


def _round(x: jax.Array) -> jax.Array:
    """Rounds half up; the gradient is that of the identity (straight-through)."""
    return x + jax.lax.stop_gradient(jnp.floor(x + 0.5) - x)


def _round_as_libjpeg(x: jax.Array) -> jax.Array:
    """Rounds half away from zero, as libjpeg rounds coefficients; the gradient is that of the identity.

    libjpeg computes in integers. The small term rounds ties in the same way where float32 gives slightly less.
    """
    rounded = jnp.sign(x) * jnp.floor(jnp.abs(x) + 0.5 + 1e-5)
    return x + jax.lax.stop_gradient(rounded - x)


def _quantise_blocks(plane: jax.Array, table: jax.Array) -> jax.Array:
    """Quantises the DCT coefficients of each 8 x 8 block of `plane [H, W]` (zero-centred, sides divisible by 8)."""
    height, width = plane.shape
    blocks = plane.reshape(height // 8, 8, width // 8, 8)
    dct = jnp.asarray(DCT, jnp.float32)
    frequencies = jnp.einsum("ui,vj,aibj->aubv", dct, dct, blocks, precision=HIGHEST)
    frequencies = _round_as_libjpeg(frequencies / table[:, None]) * table[:, None]
    return jnp.einsum("ui,vj,aubv->aibj", dct, dct, frequencies, precision=HIGHEST).reshape(height, width)


def _downsample_chroma(plane: jax.Array) -> jax.Array:
    """Returns the mean of each 2 x 2 block of integers; as in libjpeg, halves round down and up by turns (columns)."""
    height, width = plane.shape
    mean = plane.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
    return _round(mean - jnp.where(jnp.arange(width // 2) % 2 == 0, 0.25, 0.0))


def _upsample_chroma(plane: jax.Array) -> jax.Array:
    """Doubles both axes by libjpeg's "fancy" upsampling: 3/4 of the nearer sample plus 1/4 of the farther one."""
    for axis in (0, 1):
        padded = jnp.pad(plane, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        count = plane.shape[axis]
        before, after = (jax.lax.slice_in_dim(padded, start, start + count, axis=axis) for start in (0, 2))
        pair = jnp.stack([0.75 * plane + 0.25 * before, 0.75 * plane + 0.25 * after], axis=axis + 1)
        plane = pair.reshape([2 * size if a == axis else size for a, size in enumerate(plane.shape)])
    return plane


def jpeg(image: jax.Array, quality: jax.Array | float, *, subsampling: bool = True) -> jax.Array:
    """Returns `image` after JPEG compression and decompression; close to libjpeg's integer arithmetic.

    Args:
      image: `[H, W, 3]` in [0, 1], of any size: the last rows and columns are repeated to fill whole blocks.
      quality: 1 to 100 as for libjpeg; may be traced.
      subsampling: True halves the resolution of chroma (4:2:0), as most files do; False keeps it (4:4:4).

    Returns:
      `[H, W, 3]` in [0, 1], multiples of 1/255. The gradient of all rounding is that of the identity.
    """
    height, width = image.shape[:2]
    block = 16 if subsampling else 8
    padded = jnp.pad(image, ((0, -height % block), (0, -width % block), (0, 0)), mode="edge")
    pixels = _round(jnp.clip(padded, 0.0, 1.0) * 255.0)
    planes = jnp.einsum("kc,hwc->khw", TO_YCBCR.astype(np.float32), pixels, precision=HIGHEST)
    luma_table, chroma_table = quantisation_tables(quality)
    planes = _round(planes)
    luma = _quantise_blocks(planes[0] - 128.0, luma_table) + 128.0
    chroma = []
    for plane in planes[1:]:
        small = _downsample_chroma(plane) if subsampling else plane
        small = jnp.clip(_round(_quantise_blocks(small, chroma_table)), -128.0, 127.0)
        chroma.append(_round(_upsample_chroma(small)) if subsampling else small)
    decoded = jnp.stack([jnp.clip(_round(luma), 0.0, 255.0), *chroma])
    rgb = jnp.einsum("ck,khw->hwc", TO_RGB.astype(np.float32), decoded, precision=HIGHEST)
    return jnp.clip(_round(rgb), 0.0, 255.0)[:height, :width] / 255.0


def jpeg_unaligned(key: jax.Array, image: jax.Array, quality: jax.Array | float) -> jax.Array:
    """Returns `jpeg(image, quality)` with a random offset of the block grid, as in a crop of a compressed image."""
    phase = jax.random.randint(key, (2,), 0, 16)
    height, width, channels = image.shape
    padded = jnp.pad(image, ((16, 16), (16, 16), (0, 0)), mode="edge")
    shifted = jax.lax.dynamic_slice(padded, (*phase, 0), (height + 16, width + 16, channels))
    return jax.lax.dynamic_slice(jpeg(shifted, quality), (*(16 - phase), 0), (height, width, channels))
