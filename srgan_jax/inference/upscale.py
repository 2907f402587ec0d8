"""Super-resolution inside other people's code: `upscale`."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax.inference.checks import checked_image
from srgan_jax.ops import color
from srgan_jax.weights import Weights, make_weights


def upscale(
    params: Weights | Mapping[str, Any],
    img: jax.Array | np.ndarray,
    *,
    architecture: Mapping[str, Any] | None = None,
    self_ensemble: bool = False,
) -> jax.Array:
    """Super-resolves pictures. A pure function: it works under `jit`, `vmap` and `grad`.

    Args:
      params: from `srgan_jax.load`, or a Flax variables dict of a generator.
      img: `[H, W, 3]` or `[N, H, W, 3]` RGB; uint8, or float in [0, 1].
      architecture: for a variables dict whose architecture is not the paper's, see `weights.make_weights`.
      self_ensemble: average the results of the eight flips and rotations (Timofte et al., CVPR 2016, section 3.7).

    Returns:
      The same kind (dtype and number of axes) at `scale` times the height and width; floats are clipped to [0, 1].

    Raises:
      UserError: another shape or dtype, values far outside [0, 1] in a NumPy array, or params that don't fit their
        architecture.
    """
    image = checked_image(img, jnp.asarray, axes=(3, 4))
    if not isinstance(params, Weights):
        params = make_weights(params, architecture)
    lr = color.from_uint8(image) if image.dtype == jnp.uint8 else image.astype(jnp.float32)
    apply = _apply_to_orientations if self_ensemble else _apply
    sr = apply(params, lr if lr.ndim == 4 else lr[None])
    sr = sr if lr.ndim == 4 else sr[0]
    return color.to_uint8(sr) if image.dtype == jnp.uint8 else jnp.clip(sr, 0.0, 1.0).astype(image.dtype)


@functools.partial(jax.jit, static_argnames="dtype")
def _apply(
    weights: Weights, lr: jax.Array | np.ndarray, mask: jax.Array | None = None, dtype: Any = jnp.float32
) -> jax.Array:
    return weights.module(dtype=dtype).apply(weights.variables, lr, mask=mask)


def _apply_to_orientations(weights: Weights, lr: jax.Array) -> jax.Array:
    """The mean over flips and rotations, `[N, H, W, 3]`, clipped before it is taken as results are."""

    def oriented(turns: int, flip: bool) -> jax.Array:
        lr_oriented = jnp.rot90(lr[:, :, ::-1] if flip else lr, turns, axes=(1, 2))
        sr = jnp.rot90(jnp.clip(_apply(weights, lr_oriented), 0.0, 1.0), -turns, axes=(1, 2))
        return sr[:, :, ::-1] if flip else sr

    return jnp.asarray(sum(oriented(turns, flip) for flip in (False, True) for turns in range(4))) / 8.0


def upscale_canvas(weights: Weights, lr: jax.Array | np.ndarray, size: tuple[int, int]) -> jax.Array:
    """Super-resolves a picture that lies in the top left of a larger canvas, as if it stood alone.

    Pictures of many sizes laid into canvases of one size share one compilation.

    Args:
      weights: from `srgan_jax.load`.
      lr: `[H, W, 3]` float in [0, 1]; outside the picture its outermost rows and columns are repeated.
      size: the picture's height and width, at most H and W.

    Returns:
      `[H * scale, W * scale, 3]` in [0, 1], whose top left `size * scale` is the picture's result.
    """
    rows = jnp.arange(lr.shape[0])[:, None] < size[0]
    columns = jnp.arange(lr.shape[1])[None, :] < size[1]
    mask = (rows & columns)[None, :, :, None].astype(jnp.float32)
    return jnp.clip(_apply(weights, lr[None], mask)[0], 0.0, 1.0)
