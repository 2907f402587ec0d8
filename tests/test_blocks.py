"""Tests of convolutions before a pixel shuffle: the same numbers as after it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from srgan_jax import models
from srgan_jax.models import blocks, layers

NHWC = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}


@pytest.mark.parametrize(("factor", "size"), [(2, 9), (3, 9), (2, 3), (3, 5)])
def test_a_kernel_of_blocks_convolves_as_the_kernel_does(factor, size):
    """Against NumPy's arithmetic in float64: each output pixel is a sum over the kernel's window."""
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 4, 3, 2 * factor**2)), rng.normal(size=(size, size, 2, 3))
    image = np.asarray(layers.pixel_shuffle(jnp.asarray(x, jnp.float32), factor), np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(image, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0))), (size, size), axis=(1, 2)
    )
    expected = np.einsum("nhwcuv,uvcd->nhwd", windows, kernel)
    rearranged = blocks.kernel_of_blocks(jnp.asarray(kernel, jnp.float32), factor)
    pad = (rearranged.shape[0] // 2,) * 2
    y = jax.lax.conv_general_dilated(jnp.asarray(x, jnp.float32), rearranged, (1, 1), (pad, pad), **NHWC)
    np.testing.assert_allclose(layers.pixel_shuffle(y, factor), expected, atol=1e-4)


@pytest.fixture
def as_on_accelerators(monkeypatch):
    """Traces the branches of other backends than CPUs."""
    choose = lambda *args, default, **branches: default(*args)  # noqa: E731
    return lambda: monkeypatch.setattr(jax.lax, "platform_dependent", choose)


@pytest.mark.parametrize("fields", [{}, {"scale": 3, "activation": "leaky_relu"}, {"activation": "prelu_shared"}])
def test_srresnet_has_the_same_values_and_gradients_on_accelerators(fields, as_on_accelerators):
    module = models.build(models.GENERATORS, {"name": "srresnet", "blocks": 1, "width": 8, "norm": "none"} | fields)
    lr = jax.random.uniform(jax.random.key(0), (2, 6, 5, 3))
    mask = jnp.ones((2, 6, 5, 1)).at[0, 4:].set(0)
    variables = module.init(jax.random.key(1), lr)
    variables = jax.tree.map(lambda x: x + 0.1 * jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape), variables)
    sr = functools.partial(module.apply, train=True, mask=mask)
    weights = jax.random.normal(jax.random.key(2), jax.eval_shape(sr, variables, lr).shape)
    run = lambda variables, lr: (sr(variables, lr), jax.grad(lambda v: jnp.sum(sr(v, lr) * weights))(variables))  # noqa: E731
    plain = jax.jit(run)(variables, lr)
    as_on_accelerators()
    found = jax.jit(lambda *args: run(*args))(variables, lr)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(plain), strict=True):
        assert np.abs(ours - theirs).max() <= 2e-4 * max(1, np.abs(theirs).max())
    assert any((ours != theirs).any() for ours, theirs in zip(*map(jax.tree.leaves, (found, plain)), strict=True))
