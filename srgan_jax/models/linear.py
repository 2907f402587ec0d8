"""Convolutions and dense layers whose parameters' gradients are summed over devices in float32.

Parameters are float32; a layer casts them to the dtype of its computation. Where XLA divides a batch among the devices
of a mesh, it would sum a gradient in the dtype of the operation that computes it, before the cast: in bfloat16, with
an error of 2 ** -9 for each device. `apply_parameters` puts the cast inside `shard_map`, and the sum outside the cast.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from srgan_jax.runtime import devices


def apply_parameters(function: Callable[..., jax.Array], x: jax.Array, *parameters: jax.Array) -> jax.Array:
    """Returns `function(x, *parameters)`; its gradients are summed over devices in the dtype of the parameters.

    Args:
      function: `(x, *parameters) -> y`, which casts the parameters; each sample of the batch `y [N, ...]` depends on
        that of `x` alone.
      x: `[N, ...]`.
      *parameters: float32.
    """
    mesh = devices.batch_mesh.get()
    if mesh is None or mesh.size == 1 or x.dtype == jnp.float32 or x.shape[0] % mesh.size:
        return function(x, *parameters)
    split, whole = PartitionSpec(devices.AXIS), PartitionSpec()
    specs = (split, *(whole for _ in parameters))
    return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=split, check_vma=False)(x, *parameters)


def spread(vector: jax.Array, like: jax.Array) -> jax.Array:
    """Returns `vector [C]` for each position of `like [..., C]`, in its dtype; the gradient is summed in float32."""
    return vector if vector.dtype == like.dtype else jnp.broadcast_to(vector, like.shape).astype(like.dtype)


class Conv(nn.Conv):
    """`nn.Conv` of images `[N, H, W, C]` with padding in pixels, by `apply_parameters`.

    With `blocks`, its input is a map before a pixel shuffle by that factor, which `conv_general_dilated` also does.
    """

    blocks: int = 1

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        size: Any = self.kernel_size  # `Any`: flax also allows kinds that are not used here
        strides: Any = self.strides
        padding: Any = self.padding
        channels = inputs.shape[-1] // self.blocks**2 // self.feature_group_count
        kernel = self.param("kernel", self.kernel_init, (*size, channels, self.features), self.param_dtype)
        bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype) if self.use_bias else None

        def run(x, kernel, *bias):
            options: dict[str, Any] = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "precision": self.precision}
            if self.feature_group_count > 1:
                options["feature_group_count"] = self.feature_group_count
            y = (self.conv_general_dilated or jax.lax.conv_general_dilated)(
                x, kernel.astype(x.dtype), strides, padding, **options
            )
            return y + spread(bias[0], y) if bias else y

        parameters = (kernel,) if bias is None else (kernel, bias)
        return apply_parameters(run, inputs.astype(_dtype(self.dtype, inputs)), *parameters)


class Dense(nn.Dense):
    """`nn.Dense` of `[N, ..., C]`, by `apply_parameters`."""

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        shape = (inputs.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype) if self.use_bias else None

        def run(x, kernel, *bias):
            last, no_batch = (((x.ndim - 1,), (0,)), ((), ()))
            y = jax.lax.dot_general(x, kernel.astype(x.dtype), (last, no_batch), precision=self.precision)
            return y + spread(bias[0], y) if bias else y

        parameters = (kernel,) if bias is None else (kernel, bias)
        return apply_parameters(run, inputs.astype(_dtype(self.dtype, inputs)), *parameters)


def _dtype(dtype: Any, inputs: jax.Array) -> Any:
    return jnp.result_type(inputs.dtype, jnp.float32) if dtype is None else dtype
