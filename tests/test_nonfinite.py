"""Tests of the counters of non-finite updates, of the states to roll back to, and of gradient clipping."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from srgan_jax.config.schema import StageConfig
from srgan_jax.training import nonfinite
from srgan_jax.training.game import Optimizer
from srgan_jax.training.optimizers import create_optimizer
from srgan_jax.training.players import apply_gradient
from srgan_jax.training.state import NetworkState


def _state(**health):
    values = {name: jnp.int32(value) for name, value in health.items()}
    return types.SimpleNamespace(health=nonfinite.initial_health().replace(**values))


@pytest.mark.parametrize(
    ("health", "d_wins_steps", "healthy"),
    [
        ({}, 0, True),
        ({"skipped": 5}, 0, True),
        ({"in_a_row": 1}, 0, False),
        ({"alarm": True}, 0, False),
        ({"d_wins": 5}, 0, True),  # the config sets no limit on D's wins
        ({"d_wins": 4}, 9, True),
        ({"d_wins": 5}, 9, False),
    ],
)
def test_which_states_can_be_rolled_back_to(health, d_wins_steps, healthy):
    assert nonfinite.is_healthy(_state(**health), d_wins_steps) is healthy


def test_nan_and_inf_are_found():
    tree = {"a": jnp.ones(3), "b": (jnp.arange(4), jnp.ones((2, 2), jnp.bfloat16)), "c": jnp.uint32(7)}
    assert nonfinite.all_finite(tree)
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        assert not nonfinite.all_finite(tree | {"a": jnp.ones(3).at[1].set(bad)})
        assert not nonfinite.all_finite(tree | {"b": (jnp.arange(4), jnp.ones((2, 2), jnp.bfloat16).at[1, 1].set(bad))})


@pytest.mark.parametrize(("accuracies", "wins"), [([1.0, 1.0, 1.0], [1, 2, 3]), ([1.0, 0.75, 1.0], [1, 0, 1])])
def test_consecutive_wins_of_the_discriminator_are_counted(accuracies, wins):
    import flax.struct

    @flax.struct.dataclass
    class State:
        step: jax.Array
        health: nonfinite.Health

    def update(state, accuracy):
        return state.replace(step=state.step + 1), {"d_accuracy_real": accuracy, "d_accuracy_fake": jnp.float32(1.0)}

    state, run = (
        State(jnp.int32(0), nonfinite.initial_health()),
        nonfinite.skip_nonfinite(update, max_skips=2, d_wins_steps=3),
    )
    found = []
    for accuracy in accuracies:
        state, metrics = run(state, jnp.float32(accuracy))
        found.append(int(state.health.d_wins))
    assert found == wins and bool(metrics["alarm"]) == (wins[-1] == 3)


def _is_adam(part):
    return isinstance(part, optax.ScaleByAdamState)


def test_gradients_are_clipped_before_adam():
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    grads = {"a": jnp.array([30.0]), "b": jnp.array([-40.0])}  # of norm 50
    moments = {}
    for clip in (0.0, 5.0, 100.0):
        adam = create_optimizer(StageConfig(total_steps=10), 1e-3)
        network = NetworkState(params, {}, adam.init(params))
        moved = apply_gradient(network, grads, {}, Optimizer(adam, clip_norm=clip), jnp.int32(0))
        adam = next(part for part in jax.tree.leaves(moved.opt_state, is_leaf=_is_adam) if _is_adam(part))
        moments[clip] = [float(adam.mu["a"][0]), float(adam.mu["b"][0])]
    np.testing.assert_allclose(moments[0.0], [3.0, -4.0], rtol=1e-6)  # a tenth of the gradient
    np.testing.assert_allclose(moments[5.0], [0.3, -0.4], rtol=1e-6)
    np.testing.assert_allclose(moments[100.0], [3.0, -4.0], rtol=1e-6)
