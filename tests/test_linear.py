"""Tests of layers whose parameters' gradients are summed over devices in float32."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from srgan_jax.models import layers, linear
from srgan_jax.models.discriminator_layers import SpectralConv
from srgan_jax.runtime import devices
from srgan_jax.training.mapping import map_update


class Layers(nn.Module):
    """One layer of each kind that casts its parameters, in bfloat16."""

    @nn.compact
    def __call__(self, x):
        x = layers.PReLU(name="act")(layers.conv(8, 3, "conv", dtype=jnp.bfloat16)(x))
        x = SpectralConv(8, 3, dtype=jnp.bfloat16, name="spectral")(x)
        return linear.Dense(4, dtype=jnp.bfloat16, name="dense")(x.reshape(len(x), -1))


@pytest.fixture(scope="module")
def gradients():
    """Gradients of `Layers` as float64 vectors by name of the parameter, on 1 and on 4 devices."""
    module, rng = Layers(), np.random.default_rng(0)
    batch = {"x": rng.normal(size=(64, 6, 6, 3)).astype(np.float32)}
    batch["weights"] = rng.normal(size=(64, 4)).astype(np.float32)
    variables = module.init(jax.random.key(0), batch["x"][:1])

    def update(variables, _, batch):
        def loss(params):
            y = module.apply({**variables, "params": params}, batch["x"])
            return jnp.sum(y.astype(jnp.float32) * batch["weights"])

        return variables, jax.grad(loss)(variables["params"])

    def run(count):
        mesh = devices.make_mesh(jax.devices()[:count])
        replicated = devices.replicate(jax.tree.map(jnp.copy, variables), mesh)
        _, grads = map_update(update, mesh, "jit")(replicated, None, devices.shard(batch, mesh, "jit"))
        return {
            jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(grads)
        }

    return run(1), run(4)


def test_sums_over_devices_are_not_rounded_to_bfloat16(gradients):
    """A sum in bfloat16 has 8 significant bits; that of four such numbers in float32 has more."""
    one, four = gradients
    for name, found in four.items():
        rounded = np.asarray(jnp.asarray(found).astype(jnp.bfloat16).astype(jnp.float32))
        assert found.dtype == np.float32 and (rounded != found).mean() > 0.5, name
        error = np.linalg.norm(found - one[name]) / np.linalg.norm(one[name])
        assert error < 0.02, (name, error)  # each is rounded to bfloat16 somewhere, at 2 ** -9


@pytest.mark.parametrize("kind", ["conv", "dense"])
def test_gradients_over_devices_are_those_of_float64(kind):
    """Sums over devices are in float32: in bfloat16 alone a bias's error is 4 %.

    A matrix product still rounds each device's part, at 2 ** -9; on CPUs, JAX 0.12 also adds within a part in bfloat16.
    """
    rng = np.random.default_rng(1)
    as_bfloat16 = lambda a: np.asarray(jnp.asarray(a, jnp.bfloat16).astype(jnp.float32))  # noqa: E731
    x, cotangent = (as_bfloat16(rng.normal(size=(32, 8, 8, channels))) for channels in (6, 10))
    radius = {"conv": 1, "dense": 0}[kind]
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(x.astype(np.float64), ((0, 0), (radius, radius), (radius, radius), (0, 0))), (8, 8), axis=(1, 2)
    )
    exact = {"kernel": np.einsum("nuvchw,nhwd->uvcd", windows, cotangent), "bias": cotangent.sum((0, 1, 2), np.float64)}
    layer = {"conv": layers.conv(10, 3, "conv", dtype=jnp.bfloat16), "dense": linear.Dense(10, dtype=jnp.bfloat16)}[
        kind
    ]
    params = layer.init(jax.random.key(0), x[:1])
    mesh = devices.make_mesh(jax.devices()[:4])

    def update(params, _, batch):
        run = lambda params: jnp.sum(layer.apply(params, batch["x"]).astype(jnp.float32) * batch["cotangent"])  # noqa: E731
        return params, jax.grad(run)(params)

    batch = devices.shard({"x": x, "cotangent": cotangent}, mesh, "jit")
    _, grads = map_update(update, mesh, "jit")(devices.replicate(params, mesh), None, batch)
    dense = 2.0**-9 if jax.__version_info__ < (0, 12) else 2.0**-5
    tolerance = {"kernel": {"conv": 1e-5, "dense": dense}[kind], "bias": 1e-5}
    for name, found in grads["params"].items():
        error = np.linalg.norm(np.asarray(found, np.float64).ravel() - exact[name].ravel()) / np.linalg.norm(
            exact[name]
        )
        assert error < tolerance[name], (name, error)
