"""Batch normalisation: flax's, with fewer kernels on GPUs."""

import flax.linen as nn
import jax
import jax.numpy as jnp

AXES = (0, 1, 2)  # over which images `[N, H, W, C]` are averaged


class BatchNorm(nn.BatchNorm):
    """`nn.BatchNorm`. In programs for GPUs, training computes both statistics, and both sums of the gradient, together.

    That is 6 kernels for a layer and its gradient instead of 11. Under pmap, statistics are averaged over an axis
    as flax does it.
    """

    @nn.compact
    def __call__(
        self, x: jax.Array, use_running_average: bool | None = None, *, mask: jax.Array | None = None
    ) -> jax.Array:
        running = nn.merge_param("use_running_average", self.use_running_average, use_running_average)
        if running or mask is not None or self.axis_name is not None or x.ndim != len(AXES) + 1:
            return super().__call__(x, use_running_average, mask=mask)
        features = x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, features, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, features, jnp.float32)
        scale = self.param("scale", self.scale_init, features, self.param_dtype)
        bias = self.param("bias", self.bias_init, features, self.param_dtype)

        def plain(x, scale, bias):
            mean, var = _mean_and_var(x)
            factor = jax.lax.rsqrt(jnp.expand_dims(var, AXES) + self.epsilon) * scale.reshape(1, 1, 1, -1)
            return (x - jnp.expand_dims(mean, AXES)) * factor + bias.reshape(1, 1, 1, -1), mean, var

        def together(x, scale, bias):
            return _normalise(x, scale, bias, self.epsilon)

        y, mean, var = jax.lax.platform_dependent(x, scale, bias, cuda=together, rocm=together, default=plain)
        if not self.is_initializing():
            running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
            running_var.value = self.momentum * running_var.value + (1 - self.momentum) * var
        return y.astype(jnp.result_type(x.dtype, jnp.float32) if self.dtype is None else self.dtype)


def _mean_and_var(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    x = x.astype(jnp.float32)
    square = jax.lax.square(x)  # before the means, as in flax: gradients are then added in the same order
    mean, mean_square = x.mean(AXES), square.mean(AXES)
    return mean, jnp.maximum(0.0, mean_square - jax.lax.square(mean))


def _means_together(a: jax.Array, b: jax.Array) -> list[jax.Array]:
    """Returns the means of two maps `[N, H, W, C]` for each channel, by one reduction."""
    return jnp.split(jnp.concatenate([a, b], axis=-1).mean(AXES), 2)


@jax.custom_vjp
def _normalise(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns normalised `x` in float32, the means and the variances; the latter two have no gradient."""
    x = x.astype(jnp.float32)
    mean, mean_square = _means_together(x, jax.lax.square(x))
    var = jnp.maximum(0.0, mean_square - jax.lax.square(mean))
    return (x - mean) * (jax.lax.rsqrt(var + epsilon) * scale) + bias, mean, var


def _forward(x, scale, bias, epsilon):
    y, mean, var = _normalise(x, scale, bias, epsilon)
    return (y, mean, var), (x, scale, mean, jax.lax.rsqrt(var + epsilon))


def _backward(saved, cotangents):
    """Returns the gradients: Ioffe and Szegedy, arXiv 1502.03167, section 3."""
    x, scale, mean, inverse_std = saved
    dy = cotangents[0]
    normalised = (x.astype(jnp.float32) - mean) * inverse_std
    mean_dy, mean_product = _means_together(dy, dy * normalised)
    dx = scale * inverse_std * (dy - mean_dy - normalised * mean_product)
    count = x.size // x.shape[-1]
    return dx.astype(x.dtype), count * mean_product, count * mean_dy, None


_normalise.defvjp(_forward, _backward)
