"""`upscale`, the pure function that applies a generator to arrays."""

import collections
import functools
import threading
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType

from srgan_jax.inference.checks import check_is_array, checked_image
from srgan_jax.models import channels_of
from srgan_jax.ops import color
from srgan_jax.runtime.errors import UserError
from srgan_jax.weights import Weights, make_weights

MAX_PROGRAMS = 32  # that `upscale` keeps; one has about 20 MB


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

    What compiles when: called with arrays, it pads the image to a canvas, whose sides `canvas_side` gives (16, 32, ...,
    128, 160, 192, 224, 256, 320, ...), and compiles once for each architecture, canvas, batch size and `dtype`. Images
    of other sizes in the same canvas, and other weights, share the program; the last 32 programs are kept. The result
    is that of the image alone, up to rounding: a mask marks its pixels. Under a transformation of yours nothing is
    padded, and your function compiles once for each shape of its arguments.

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
    check_is_array(img)
    if not isinstance(params, Weights):
        params = make_weights(params, architecture)
    image = checked_image(img, _as_array, axes=(3, 4), channels=channels_of(params.architecture))
    if image.dtype == jnp.uint8 and not clip:
        raise UserError("clip=False: expected a float image in [0, 1], got uint8; pass img / 255")
    dtype = jnp.dtype(dtype or jnp.float32)
    if all(_is_concrete(leaf) for leaf in jax.tree.leaves((image, params))):
        return _upscale_padded(params, np.asarray(image), self_ensemble, clip, dtype)
    run: Any = functools.partial(_upscale_array, self_ensemble=self_ensemble, clip=clip, dtype=dtype)
    sharding = jax.typeof(image).sharding
    if AxisType.Explicit in sharding.mesh.axis_types:  # SR is sharded as LR is; inside, XLA chooses
        run = jax.sharding.auto_axes(run, out_sharding=sharding)
    return run(params, image)


def _upscale_array(params: Weights, image: jax.Array, *, self_ensemble: bool, clip: bool, dtype: Any) -> jax.Array:
    """Returns SR of `image` in its shape and dtype; all operations are JAX's."""
    lr = color.from_integers(image) if image.dtype == jnp.uint8 else image.astype(jnp.float32)
    apply = functools.partial(_apply, dtype=dtype)
    batch = lr if lr.ndim == 4 else lr[None]
    sr = _mean_over_orientations(apply, params, batch, clip) if self_ensemble else apply(params, batch)
    sr = sr if lr.ndim == 4 else sr[0]
    if image.dtype == jnp.uint8:
        return color.to_uint8(sr)
    return (jnp.clip(sr, 0.0, 1.0) if clip else sr).astype(image.dtype)


def _as_array(image: Any) -> Any:
    """Returns an array of JAX as it is, others as NumPy's, with a dtype that JAX has; nothing compiles."""
    if isinstance(image, jax.Array):
        return image
    array = np.asarray(image)
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)


def _is_concrete(leaf: Any) -> bool:
    """Returns whether an array has its values in one place: it is neither traced nor on several devices."""
    if isinstance(leaf, Tracer):
        return False
    return not isinstance(leaf, jax.Array) or len(leaf.sharding.device_set) == 1


def canvas_side(side: int) -> int:
    """Returns the side of the canvas for an image's side: multiples of 16, from 64 on four in each power of 2."""
    step = max(16, 1 << max((side - 1).bit_length() - 3, 0))
    return -(-side // step) * step


def _upscale_padded(weights: Weights, image: np.ndarray, self_ensemble: bool, clip: bool, dtype: Any) -> jax.Array:
    """Returns SR of images whose values are known; pads, crops and averages on the host, where nothing compiles."""
    batch = image if image.ndim == 4 else image[None]
    lr = batch.astype(np.float32) / np.float32(255 if image.dtype == np.uint8 else 1)
    if self_ensemble:
        sr = _mean_over_orientations(functools.partial(_apply_padded, dtype=dtype), weights, lr, clip, np)
    else:
        sr = _apply_padded(weights, lr, dtype)
    sr = np.clip(sr, 0.0, 1.0) if clip else sr
    if image.dtype == np.uint8:
        sr = np.floor(np.nan_to_num(sr) * np.float32(255) + np.float32(0.5))
    return jax.device_put((sr if image.ndim == 4 else sr[0]).astype(image.dtype))


def _apply_padded(weights: Weights, lr: np.ndarray, dtype: Any) -> np.ndarray:
    """Returns SR `[N, H * scale, W * scale, 3]` of `lr [N, H, W, 3]` in [0, 1], computed in a canvas."""
    _, height, width, _ = lr.shape
    sides = canvas_side(height), canvas_side(width)
    border = ((0, 0), (0, sides[0] - height), (0, sides[1] - width), (0, 0))
    mask = np.pad(np.ones((1, height, width, 1), np.float32), border)
    program = _program(weights.architecture, (len(lr), *sides), dtype)
    sr = np.asarray(program(weights, np.pad(lr, border, mode="edge"), mask))
    return sr[:, : height * weights.scale, : width * weights.scale]


_lock = threading.Lock()
_programs: collections.OrderedDict[Any, Any] = collections.OrderedDict()  # those used last are at the end


def _program(architecture: Mapping[str, Any], shape: tuple[int, ...], dtype: Any) -> Callable[..., jax.Array]:
    """Returns a jitted function of its own for each key; keeps the `MAX_PROGRAMS` that were used last."""
    key = architecture, shape, dtype

    def apply(weights: Weights, lr: jax.Array, mask: jax.Array) -> jax.Array:
        return weights.module(dtype=dtype).apply(weights.variables, lr, mask=mask).astype(jnp.float32)

    with _lock:
        program = _programs[key] = _programs.pop(key, None) or jax.jit(apply)
        while len(_programs) > MAX_PROGRAMS:
            _programs.popitem(last=False)[1].clear_cache()  # frees the compiled program
    return program


@functools.partial(jax.jit, static_argnames="dtype")
def _apply(
    weights: Weights, lr: jax.Array | np.ndarray, mask: jax.Array | None = None, dtype: Any = jnp.float32
) -> jax.Array:
    return weights.module(dtype=dtype).apply(weights.variables, lr, mask=mask)


def _mean_over_orientations(
    apply: Callable[[Weights, Any], Any], weights: Weights, lr: Any, clip: bool, numpy: Any = jnp
) -> Any:
    """Returns the mean SR over eight flips and rotations of `lr [N, H, W, 3]`; with `clip`, of SR clipped to [0, 1].

    `numpy` is the library of the arrays, `jnp` or `np`.
    """

    def oriented(turns: int, flip: bool) -> Any:
        lr_oriented = numpy.rot90(lr[:, :, ::-1] if flip else lr, turns, axes=(1, 2))
        sr = apply(weights, lr_oriented)
        sr = numpy.rot90(numpy.clip(sr, 0.0, 1.0) if clip else sr, -turns, axes=(1, 2))
        return sr[:, :, ::-1] if flip else sr

    return sum(oriented(turns, flip) for flip in (False, True) for turns in range(4)) / numpy.float32(8.0)


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
