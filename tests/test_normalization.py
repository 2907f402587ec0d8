"""Tests of batch normalisation against flax's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from srgan_jax.models.normalization import BatchNorm


@pytest.mark.parametrize(("platform", "rtol"), [("cpu", 0.0), ("cuda", 2e-5)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_batch_normalisation_is_that_of_flax(platform, rtol, dtype, monkeypatch):
    """To the bit on CPUs; the branch of GPUs has the same values and gradients."""
    choose = lambda *args, default, **branches: branches.get(platform, default)(*args)  # noqa: E731
    monkeypatch.setattr(jax.lax, "platform_dependent", choose)
    x = (jax.random.normal(jax.random.key(0), (3, 4, 5, 6)) * 2 + 1).astype(dtype)
    weights = jax.random.normal(jax.random.key(1), x.shape)
    found = {}
    for kind in (BatchNorm, nn.BatchNorm):
        module = kind(use_running_average=False, momentum=0.9, dtype=dtype)
        variables = module.init(jax.random.key(2), x)
        params = jax.tree.map(lambda leaf: leaf + jnp.cos(jnp.arange(6.0)), variables["params"])

        def run(params, x, module=module, stats=variables["batch_stats"]):
            y, changed = module.apply({"params": params, "batch_stats": stats}, x, mutable=["batch_stats"])
            return jnp.sum(y * weights), (y, changed)

        found[kind] = jax.jit(jax.value_and_grad(run, argnums=(0, 1), has_aux=True))(params, x)
    same = {0.0: np.testing.assert_array_equal}.get(
        rtol if dtype == jnp.float32 else -1, lambda a, b: np.testing.assert_allclose(a, b, rtol=0.02, atol=0.02)
    )
    if rtol and dtype == jnp.float32:
        same = lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=2e-5)  # noqa: E731
    jax.tree.map(lambda a, b: same(np.asarray(a, np.float32), np.asarray(b, np.float32)), *found.values())
