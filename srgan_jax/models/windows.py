"""Attention inside windows of an image (Liu et al., Swin Transformer, arXiv 2103.14030), with masks for padding."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Size = tuple[int, int]  # rows, columns
OTHER_REGION = -100.0  # added to the logits of pixels that must not attend to each other, as in all public networks


class Windows(NamedTuple):
    """Windows of one size that cover an image.

    Attributes:
      size: rows and columns of a window; they divide the image.
      shift: rows and columns by which the windows are shifted to the bottom right; those at the end continue at the
        beginning, and pixels of the two ends don't attend to each other.
    """

    size: Size
    shift: Size = (0, 0)

    def split(self, x: jax.Array) -> jax.Array:
        """Returns the windows `[N, windows, pixels, C]` of `x [N, H, W, C]`."""
        n, height, width, channels = x.shape
        x = jnp.roll(x, (-self.shift[0], -self.shift[1]), axis=(1, 2)) if any(self.shift) else x
        (rows, columns), (h, w) = (height // self.size[0], width // self.size[1]), self.size
        return x.reshape(n, rows, h, columns, w, channels).swapaxes(2, 3).reshape(n, rows * columns, h * w, channels)

    def join(self, windows: jax.Array, size: Size) -> jax.Array:
        """Returns the image `[N, H, W, C]` of this size; the inverse of `split`."""
        n, _, _, channels = windows.shape
        (rows, columns), (h, w) = (size[0] // self.size[0], size[1] // self.size[1]), self.size
        x = windows.reshape(n, rows, columns, h, w, channels).swapaxes(2, 3).reshape(n, *size, channels)
        return jnp.roll(x, self.shift, axis=(1, 2)) if any(self.shift) else x

    def regions(self, size: Size, extent: tuple[jax.Array, jax.Array] | None) -> jax.Array | None:
        """Returns a number for each pixel of each window, `[N or 1, windows, pixels]`; None if all have the same.

        Pixels of different numbers must not attend to each other: those at the two ends of the image, and those
        outside `extent`, rows and columns of each image `[N]`, multiples of the window.
        """
        if not any(self.shift):
            return None  # windows are wholly inside or outside

        def along(axis: int) -> jax.Array:
            at = jnp.arange(size[axis])
            numbers = (at < self.shift[axis]).astype(jnp.int32)[None]
            return numbers if extent is None else jnp.where(at >= extent[axis][:, None], 2, numbers)

        numbers = along(0)[:, :, None] * 3 + along(1)[:, None, :]
        return self.split(numbers[..., None])[..., 0]


def relative_index(size: Size) -> np.ndarray:
    """Returns `[pixels, pixels]`: for two pixels of a window, the row of `relative_offsets` with their difference."""
    rows, columns = (axis.reshape(-1) for axis in np.meshgrid(*map(np.arange, size), indexing="ij"))
    difference = [axis[:, None] - axis[None, :] for axis in (rows, columns)]
    return (difference[0] + size[0] - 1) * (2 * size[1] - 1) + difference[1] + size[1] - 1


def relative_offsets(size: Size) -> np.ndarray:
    """Returns all differences of two positions in a window, `[(2 h - 1) * (2 w - 1), 2]`, row by row."""
    axes = (np.arange(1 - side, side) for side in size)
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float32)


def attention(
    qkv: jax.Array,
    windows: Windows,
    heads: int,
    bias_of_offset: jax.Array,
    extent: tuple[jax.Array, jax.Array] | None = None,
) -> jax.Array:
    """Returns softmax(q k / sqrt(d) + bias) v in each window, `[N, H, W, C]`.

    Args:
      qkv: `[3, N, H, W, C]`: queries, keys and values; the windows divide H and W.
      windows: their size and shift.
      heads: channels are divided into so many parts of d channels, each with its own softmax.
      bias_of_offset: `[(2 h - 1) * (2 w - 1), heads]`, for each row of `relative_offsets`.
      extent: rows and columns of each image `[N]`, where it is smaller than H and W; multiples of the windows.
    """
    q, k, v = (_heads(windows.split(part), heads) for part in qkv)
    bias = bias_of_offset[relative_index(windows.size)].transpose(2, 0, 1)  # [heads, pixels, pixels]
    image_size = (qkv.shape[2], qkv.shape[3])
    logits = jnp.einsum("nwhid,nwhjd->nwhij", q * q.shape[-1] ** -0.5, k) + bias.astype(q.dtype)
    numbers = windows.regions(image_size, extent)
    if numbers is not None:
        same = numbers[:, :, None, :, None] == numbers[:, :, None, None, :]
        logits = logits + jnp.where(same, 0.0, OTHER_REGION).astype(logits.dtype)
    weights = jax.nn.softmax(logits.astype(jnp.float32), axis=-1).astype(v.dtype)
    result = jnp.einsum("nwhij,nwhjd->nwihd", weights, v)
    return windows.join(result.reshape(*result.shape[:3], -1), image_size)


def _heads(x: jax.Array, heads: int) -> jax.Array:
    """Returns `x [N, windows, pixels, C]` as `[N, windows, heads, pixels, C / heads]`."""
    return x.reshape(*x.shape[:3], heads, -1).swapaxes(2, 3)


def extent_of(mask: jax.Array | None, multiple: int) -> tuple[jax.Array, jax.Array] | None:
    """Returns the rows and columns of each image `[N]`, rounded up to multiples; None without a mask.

    Args:
      mask: `[N, H, W, 1]`, 1 inside the image, which is at the top left.
      multiple: of pixels.
    """
    if mask is None:
        return None
    rows, columns = (mask[..., 0].max(axis=axis).sum(axis=1).astype(jnp.int32) for axis in (2, 1))
    return -(-rows // multiple) * multiple, -(-columns // multiple) * multiple
