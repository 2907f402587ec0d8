"""`upscale`, the pure function that applies a generator to arrays."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax.inference.checks import checked_image
from srgan_jax.models import channels_of
from srgan_jax.ops import color
from srgan_jax.runtime.errors import UserError
from srgan_jax.weights import Weights, make_weights


def upscale(
    params: Weights | Mapping[str, Any],
    img: jax.Array | np.ndarray,
    *,
    architecture: Mapping[str, Any] | None = None,
    self_ensemble: bool = False,
    clip: bool = True,
    dtype: Any = None,
) -> jax.Array:
    """Upscales images. A pure function: it works under `jit`, `vmap` and `grad`.

    Clipping has the gradient 0 wherever the output leaves [0, 1]: an optimisation over `img` (an inverse problem) that
    starts there never moves. Give `clip=False` where you differentiate.

    Args:
      params: from `srgan_jax.load`, or a Flax variables dict of a generator.
      img: `[H, W, 3]` or `[N, H, W, 3]` RGB; uint8, or float in [0, 1].
      architecture: of a variables dict if it isn't the paper's, see `weights.make_weights`.
      self_ensemble: average the results of the eight flips and rotations (Timofte et al., CVPR 2016, section 3.7).
      clip: clip floats to [0, 1]; False returns them as the generator computes them.
      dtype: of the computation, such as `jnp.bfloat16`; None is float32. The parameters and the result keep theirs.

    Returns:
      `[H * scale, W * scale, 3]` or `[N, H * scale, W * scale, 3]` in the dtype of `img`.

    Raises:
      UserError: `img` has another shape or dtype, or is a NumPy array with values far outside [0, 1]; `params` don't
        fit their architecture; or `clip=False` with uint8, which can't hold such values.
    """
    if not isinstance(params, Weights):
        params = make_weights(params, architecture)
    image = checked_image(img, jnp.asarray, axes=(3, 4), channels=channels_of(params.architecture))
    lr = color.from_integers(image) if image.dtype == jnp.uint8 else image.astype(jnp.float32)
    if image.dtype == jnp.uint8 and not clip:
        raise UserError("clip=False: expected a float image in [0, 1], got uint8; pass img / 255")
    apply = functools.partial(_apply, dtype=jnp.dtype(dtype or jnp.float32))
    batch = lr if lr.ndim == 4 else lr[None]
    sr = _mean_over_orientations(apply, params, batch, clip) if self_ensemble else apply(params, batch)
    sr = sr if lr.ndim == 4 else sr[0]
    if image.dtype == jnp.uint8:
        return color.to_uint8(sr)
    return (jnp.clip(sr, 0.0, 1.0) if clip else sr).astype(image.dtype)


@functools.partial(jax.jit, static_argnames="dtype")
def _apply(
    weights: Weights, lr: jax.Array | np.ndarray, mask: jax.Array | None = None, dtype: Any = jnp.float32
) -> jax.Array:
    return weights.module(dtype=dtype).apply(weights.variables, lr, mask=mask)


def _mean_over_orientations(
    apply: Callable[[Weights, jax.Array], jax.Array], weights: Weights, lr: jax.Array, clip: bool
) -> jax.Array:
    """Returns the mean SR over eight flips and rotations of `lr [N, H, W, 3]`; with `clip`, of SR clipped to [0, 1]."""

    def oriented(turns: int, flip: bool) -> jax.Array:
        lr_oriented = jnp.rot90(lr[:, :, ::-1] if flip else lr, turns, axes=(1, 2))
        sr = apply(weights, lr_oriented)
        sr = jnp.rot90(jnp.clip(sr, 0.0, 1.0) if clip else sr, -turns, axes=(1, 2))
        return sr[:, :, ::-1] if flip else sr

    return jnp.asarray(sum(oriented(turns, flip) for flip in (False, True) for turns in range(4))) / 8.0


def upscale_canvas(weights: Weights, lr: jax.Array | np.ndarray, size: tuple[int, int]) -> jax.Array:
    """Upscales an image in the top left of a larger canvas; the result is that of the image alone.

    Images of many sizes in canvases of one size share one compilation.

    Args:
      weights: from `srgan_jax.load`.
      lr: `[H, W, 3]` float in [0, 1]; outside the image its outermost rows and columns are repeated.
      size: the image's height and width, at most H and W.

    Returns:
      `[H * scale, W * scale, 3]` in [0, 1], whose top left `size * scale` is the SR of the image; values that aren't
      finite are NaN.
    """
    rows = jnp.arange(lr.shape[0])[:, None] < size[0]
    columns = jnp.arange(lr.shape[1])[None, :] < size[1]
    mask = (rows & columns)[None, :, :, None].astype(jnp.float32)
    sr = _apply(weights, lr[None], mask)[0]
    return jnp.where(jnp.isfinite(sr), jnp.clip(sr, 0.0, 1.0), jnp.nan)
