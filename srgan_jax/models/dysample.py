"""DySample: upsampling by bilinear sampling at learned positions."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.models import layers, linear


class DySample(nn.Module):
    """Upsampling by sampling at learned positions (Liu et al., arXiv 2308.15085, the variant "LP" with dynamic scope).

    Each output pixel reads its own position of the input, one for each group of channels: the pixel's place in the
    input, plus `offset(x) * sigmoid(scope(x)) / 2`, at most at the border. Maps `x [N, H, W, C]` to
    `[N, H * scale, W * scale, features]`; with `project` through a 1x1 convolution of the samples, else `features` is
    C. `mask [N, H, W, 1]` is 1 inside the image. How far a pixel reads is learned, so has no bound.
    """

    scale: int
    groups: int
    features: int = 3
    project: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        columns, rows = self._positions(x, mask)  # [N, H * scale, W * scale, groups]
        n, height, width, channels = x.shape
        values = x.reshape(n, height, width, self.groups, channels // self.groups)
        bias = jnp.zeros(())
        if self.project:  # before sampling, which is linear: a quarter of the channels or fewer is then sampled
            kernel = self.param("kernel", nn.initializers.lecun_normal(), (channels, self.features))
            bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))

            def project(values, kernel):
                kernel = kernel.astype(self.dtype).reshape(self.groups, -1, self.features)
                return jnp.einsum("nhwgc,gcf->nhwgf", values, kernel)

            values = linear.apply_parameters(project, values, kernel)
        samples = _sample(values.astype(jnp.float32), columns, rows).astype(self.dtype)
        y = samples.sum(axis=3) if self.project else samples.reshape(*samples.shape[:3], -1)
        return y + linear.spread(bias, y) if self.project else y

    def _positions(self, x, mask):
        """Returns columns and rows of the input that are read, fractions of pixels from the top left one."""
        height, width = x.shape[1:3]
        count = 2 * self.groups * self.scale**2  # channels: (x, y), group, row and column of the sub-pixel
        init = nn.initializers.truncated_normal(0.02)
        offset = linear.Dense(count, kernel_init=init, dtype=self.dtype, name="offset")(x)
        scope = linear.Dense(
            count, use_bias=False, kernel_init=nn.initializers.zeros_init(), dtype=self.dtype, name="scope"
        )(x)
        offset = (offset * nn.sigmoid(scope)).astype(jnp.float32) * 0.5
        x_offset, y_offset = jnp.split(layers.pixel_shuffle(offset, self.scale), 2, axis=-1)
        last_column, last_row = width - 1, height - 1
        if mask is not None:  # the image's own last column and row
            last_column = mask.max(axis=1).sum(axis=1)[:, None, None, :].astype(jnp.float32) - 1
            last_row = mask.max(axis=2).sum(axis=1)[:, None, None, :].astype(jnp.float32) - 1
        x_centre = (jnp.arange(width * self.scale) + 0.5) / self.scale - 0.5
        y_centre = (jnp.arange(height * self.scale) + 0.5) / self.scale - 0.5
        columns = jnp.clip(x_centre[None, None, :, None] + x_offset, 0, last_column)
        rows = jnp.clip(y_centre[None, :, None, None] + y_offset, 0, last_row)
        return columns, rows


def _sample(values: jax.Array, columns: jax.Array, rows: jax.Array) -> jax.Array:
    """Returns bilinear samples `[N, h, w, groups, F]` of `values [N, H, W, groups, F]` at `[N, h, w, groups]`."""
    n, height, width, groups, features = values.shape
    flat = values.reshape(-1, features)
    left, top = (jnp.floor(position) for position in (columns, rows))
    x_weight, y_weight = (columns - left)[..., None], (rows - top)[..., None]
    image, group = jnp.arange(n)[:, None, None, None], jnp.arange(groups)

    def at(row, column):
        row, column = jnp.minimum(row, height - 1), jnp.minimum(column, width - 1)
        index = ((image * height + row) * width + column) * groups + group
        return jnp.take(flat, index, axis=0, mode="clip")

    left, top = left.astype(jnp.int32), top.astype(jnp.int32)
    upper = at(top, left) * (1 - x_weight) + at(top, left + 1) * x_weight
    lower = at(top + 1, left) * (1 - x_weight) + at(top + 1, left + 1) * x_weight
    return upper * (1 - y_weight) + lower * y_weight
