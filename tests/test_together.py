"""Tests of operations on many small arrays at once: the branches of GPUs give what each array gives."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from srgan_jax.training import together


@pytest.fixture(autouse=True)
def as_on_gpus(monkeypatch):
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, cuda, **others: cuda(*args))
    monkeypatch.setattr(together, "GROUP", 3)
    monkeypatch.setattr(together, "LARGE", 20)


def _tree(seed):
    shapes = {"a": (2, 3), "b": (), "c": (5,), "d": (3, 7), "e": (1, 2, 2), "f": (4,)}  # "d" is large
    return {name: jax.random.normal(jax.random.key(seed + len(name)), shape) for name, shape in shapes.items()}


def test_packed_arrays_are_unchanged():
    tree = _tree(0) | {"integer": jnp.arange(3), "half": jnp.ones(2, jnp.bfloat16)}
    jax.tree.map(np.testing.assert_array_equal, together.pack(tree), tree)


def test_the_norm_is_that_of_optax():
    np.testing.assert_allclose(together.norm(_tree(1)), optax.tree.norm(_tree(1)), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_found(bad):
    assert together.all_finite((_tree(4), jnp.arange(2)))
    assert not together.all_finite(_tree(4) | {"e": jnp.zeros((1, 2, 2)).at[0, 1, 1].set(bad)})
