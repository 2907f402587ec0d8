"""Tests of convolutions that are split for XLA's CPU backend: values and gradients are those of plain ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from srgan_jax.models import convolution

NHWC = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}


def _inputs(batch_size, side, channels, features, size):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch_size, side, side, channels)).astype(np.float32)
    return jnp.asarray(x), jnp.asarray(rng.normal(size=(size, size, channels, features)).astype(np.float32))


def _value_and_gradients(run, x, kernel):
    """Returns the output, and the gradients of a sum that weighs every output value differently."""
    rng = np.random.default_rng(1)
    weights = jnp.asarray(rng.normal(size=jax.eval_shape(run, x, kernel).shape).astype(np.float32))
    return run(x, kernel), *jax.grad(lambda *args: jnp.sum(run(*args) * weights), argnums=(0, 1))(x, kernel)


def _close(ours, theirs):
    for mine, plain in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, plain, rtol=0, atol=1e-5 * float(jnp.abs(plain).max()))


@pytest.mark.parametrize("stride", [1, 2])
def test_chunks_equal_the_whole_convolution(stride):
    args = {"strides": (stride, stride), "padding": ((1, 1), (1, 1)), **NHWC}
    inputs = _inputs(4, 12, 5, 7, 3)
    plain = _value_and_gradients(functools.partial(convolution.chunked_convolution, 1, **args), *inputs)
    _close(_value_and_gradients(functools.partial(convolution.chunked_convolution, 4, **args), *inputs), plain)
    _close(_value_and_gradients(functools.partial(convolution.chunked_convolution, 2, **args), *inputs), plain)


def test_exchanging_input_and_cotangent_gives_the_same_weight_gradient():
    inputs = _inputs(2, 10, 6, 3, 9)
    run = functools.partial(convolution.chunked_convolution, 1, strides=(1, 1), padding=((4, 4), (4, 4)), **NHWC)
    plain = _value_and_gradients(run, *inputs)
    _close(_value_and_gradients(functools.partial(convolution.with_swapped_kernel_gradient, run), *inputs), plain)


@pytest.mark.parametrize("name", ["convolution", "few_channel_convolution"])
def test_a_single_cpu_device_splits_large_feature_maps(name, monkeypatch):
    """At most four images of 48x48 are convolved at once; smaller maps, and maps on several devices, are not split.

    The platform is that which the program is lowered for, not that which traces it.
    """
    run = getattr(convolution, name)

    def counted(side, batch_size, platform="cpu"):
        traced = jax.jit(lambda x, kernel: run(x, kernel, (1, 1), ((1, 1), (1, 1)), **NHWC)).trace(
            *_inputs(batch_size, side, 2, 2, 3)
        )
        return traced.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.convolution(")

    assert counted(48, 6) == 1  # the tests' four devices
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert [counted(48, 6), counted(96, 6), counted(47, 6), counted(48, 1)] == [2, 6, 1, 1]
    assert [counted(48, 6, "tpu"), counted(96, 6, "cuda")] == [1, 1]
    inputs = _inputs(6, 48, 4, 3, 3)
    args = {"strides": (1, 1), "padding": ((1, 1), (1, 1)), **NHWC}
    plain = _value_and_gradients(functools.partial(convolution.chunked_convolution, 1, **args), *inputs)
    _close(_value_and_gradients(functools.partial(run, **args), *inputs), plain)


def test_what_a_single_cpu_device_does_not_split(monkeypatch):
    """Empty batches, symbolic sizes, and bfloat16, in which the chunks' gradients would be added coarsely."""
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    run = functools.partial(convolution.convolution, strides=(1, 1), padding=((1, 1), (1, 1)), **NHWC)
    _, kernel = _inputs(1, 48, 2, 2, 3)
    assert run(jnp.zeros((0, 48, 48, 2)), kernel).shape == (0, 48, 48, 2)
    (n, side) = jax.export.symbolic_shape("n, side")
    unknown = jax.ShapeDtypeStruct((n, side, side, 2), jnp.float32)
    for x in (jnp.zeros((16, 48, 48, 2), jnp.bfloat16), unknown):
        jaxpr = jax.make_jaxpr(run)(x, kernel.astype(x.dtype))
        assert str(jaxpr).count("conv_general_dilated[") == 1
