"""Building blocks of discriminators only: spectral normalisation, minibatch discrimination, dropout."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.models import layers, linear
from srgan_jax.models.convolution import convolution


class SpectralConv(nn.Module):
    """A convolution whose kernel is divided by its largest singular value (Miyato et al., arXiv 1802.05957).

    The kernel is flattened to a matrix `[size * size * C, features]`. Each pass does one power iteration; that of a
    training pass is kept: its vector u is in the collection "batch_stats". Imported layers also have v there, the other
    vector of the last training pass; with it other passes do no iteration, as in PyTorch.
    """

    features: int
    size: int
    stride: int = 1
    pad: int | layers.Padding | None = None  # as of `layers.conv`
    use_bias: bool = True
    kernel_init: Any = nn.initializers.lecun_normal()
    bias_init: Any = nn.initializers.zeros
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        matrix = kernel.reshape(-1, self.features)
        u_variable = self.variable(
            "batch_stats", "u", lambda: jax.random.normal(self.make_rng("params"), (self.features,), jnp.float32)
        )
        has_v = self.has_variable("batch_stats", "v")
        with jax.default_matmul_precision("highest"):
            if has_v and not train:
                u, v = u_variable.value, self.get_variable("batch_stats", "v")
            else:
                v = _normalised(jax.lax.stop_gradient(matrix) @ u_variable.value)
                u = _normalised(v @ jax.lax.stop_gradient(matrix))
            sigma = v @ matrix @ u
        if train and not self.is_initializing():
            u_variable.value = u
            if has_v:
                self.put_variable("batch_stats", "v", v)
        bias = (self.param("bias", self.bias_init, (self.features,)),) if self.use_bias else ()
        return linear.apply_parameters(self._convolved, x.astype(self.dtype), kernel / sigma, *bias)

    def _convolved(self, x: jax.Array, kernel: jax.Array, *bias: jax.Array) -> jax.Array:
        kernel = kernel.astype(x.dtype)
        x = x @ kernel[0, 0] if self.size == 1 else self._unbiased(x, kernel)
        return x + linear.spread(bias[0], x) if bias else x

    def _unbiased(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        pad = self.size // 2 if self.pad is None else self.pad
        strides, padding = (self.stride, self.stride), ((pad, pad), (pad, pad)) if isinstance(pad, int) else pad
        return convolution(x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _normalised(vector: jax.Array) -> jax.Array:
    return vector / (jnp.linalg.norm(vector) + 1e-12)


def conv(
    features: int, size: int, name: str, *, spectral: bool, train: bool, pad: int | layers.Padding | None = None,
    **kwargs: Any,
):  # fmt: skip
    """Returns a convolution, spectrally normalised if `spectral`; the other arguments are those of `layers.conv`."""
    if spectral:
        layer = SpectralConv(features, size, pad=pad, name=name, **kwargs)
        return lambda x: layer(x, train=train)
    if size == 1:  # the same result; 1x1 convolutions are slow on XLA's CPU backend
        return linear.Dense(features, name=name, **kwargs)
    return layers.conv(features, size, name, pad=pad, **kwargs)


class MinibatchDiscrimination(nn.Module):
    """Appends the similarity of each sample to the others in the batch (Salimans et al., arXiv 1606.03498).

    `[N, ..., C]` becomes `[N, ..., C + kernels]`. Feature maps are averaged over positions first, and the similarities
    broadcast to all positions. They let the discriminator detect mode collapse, which single samples don't show.
    """

    kernels: int
    size: int = 16  # dimensions of the projection of each kernel
    axis_name: str | None = None  # under pmap: the axis over which the batch is sharded

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        pooled = x.reshape(x.shape[0], -1, x.shape[-1]).mean(axis=1).astype(jnp.float32)
        projected = nn.Dense(self.kernels * self.size, use_bias=False, name="project")(pooled)
        projected = projected.reshape(-1, self.kernels, self.size)
        all_samples = projected
        if self.axis_name is not None and not self.is_initializing():
            all_samples = jax.lax.all_gather(projected, self.axis_name, tiled=True)
        distance = jnp.abs(projected[:, None] - all_samples[None]).sum(axis=-1)
        similarity = jnp.exp(-distance).sum(axis=1) - 1.0  # without the sample itself
        broadcast = jnp.broadcast_to(
            similarity.reshape(len(similarity), *(1,) * (x.ndim - 2), -1), (*x.shape[:-1], self.kernels)
        )
        return jnp.concatenate([x, broadcast.astype(x.dtype)], axis=-1)


def dropout(x: jax.Array, rate: float, keys: jax.Array | None) -> jax.Array:
    """Zeroes a fraction `rate` of the values and divides the others by `1 - rate`; each sample has its own key.

    Args:
      x: `[N, ...]`.
      rate: fraction of the values that is zeroed.
      keys: `[N]` random keys.

    Returns:
      An array of the shape of `x`.

    Raises:
      ValueError: `keys` is None.
    """
    if keys is None:
        raise ValueError('dropout needs a key for each sample: batch["keys"]')
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1.0 - rate, x.shape[1:]))(keys)
    return jnp.where(kept, x / (1.0 - rate), 0.0)
