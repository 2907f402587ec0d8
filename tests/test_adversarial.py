"""Tests of the options of GAN training, each on a problem whose solution is known."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from game_helpers import make_game

from srgan_jax import models
from srgan_jax.config.schema import StageConfig
from srgan_jax.losses import penalties
from srgan_jax.models import discriminator_layers
from srgan_jax.training import balance, gan_variants, optimizers
from srgan_jax.training.gan_step import gan_step
from srgan_jax.training.players import Generated, apply_gradient, discriminator_gradient
from srgan_jax.training.stage import init_state
from srgan_jax.training.state import create_network_state

LR = jnp.zeros((4, 2, 2, 3))
HR = jnp.zeros((4, 8, 8, 3))
KEYS = jax.random.split(jax.random.key(5), 4)


class Constant(nn.Module):
    """A generator with one parameter: every pixel has its value."""

    scale: int = 4

    @nn.compact
    def __call__(self, lr, *, train=False, mask=None):
        value = self.param("value", nn.initializers.ones, ())
        return jnp.full((len(lr), 8, 8, 3), 1.0) * value


class Brightness(nn.Module):
    """A discriminator with two parameters: slope x mean of the image + offset."""

    @nn.compact
    def __call__(self, image, *, train=False, keys=None):
        slope, offset = self.param("slope", nn.initializers.ones, ()), self.param("offset", nn.initializers.zeros, ())
        return slope * image.mean(axis=(1, 2, 3), keepdims=False)[:, None] + offset


def _train_game(
    rate_g=0.1, rate_d=0.1, *, hr=HR, steps_=1, step=gan_step, batches=None, adversarial="wgan", weight=1.0,
    losses=None, label_smoothing=0.0, penalty=0.0, **options,
):  # fmt: skip
    """Runs updates of a small game; returns value, slope and offset after each of them, and the last metrics."""
    d_losses = {"d_loss": (adversarial, 1.0, {"label_smoothing": label_smoothing})}
    d_losses |= {"gradient_penalty": ("gradient_penalty", penalty)} if penalty else {}
    losses = (losses or {}) | {"adversarial": (adversarial, weight)}
    rates = {"g_rate": rate_g, "d_rate": rate_d}
    game = make_game(Constant(), Brightness(), losses=losses, d_losses=d_losses, **rates, **options)
    state = init_state(game, 8, 4)
    batches = [{"lr": LR, "keys": KEYS, "hr": part} for part in (batches or [hr])]
    update = jax.jit(lambda state: step(state, batches, game))
    path = []
    for _ in range(steps_):
        state, metrics = update(state)
        d = state.discriminator.params
        path.append((float(state.generator.params["value"]), float(d["slope"]), float(d["offset"])))
    return np.array(path), metrics


def test_update_order_by_hand():
    # Real images are 0, so with the Wasserstein loss D's slope falls by rate x value and G's value grows by
    # rate x slope: from (1, 1), D first gives the slope 0.9 and the value 1 + 0.1 * 0.9, G first the value 1 + 0.1 * 1
    # and the slope 1 - 0.1 * 1, as D gets G's earlier images.
    np.testing.assert_allclose(_train_game()[0][0, :2], [1.09, 0.9], rtol=1e-6)
    np.testing.assert_allclose(_train_game(step=gan_variants.generator_first)[0][0, :2], [1.1, 0.9], rtol=1e-6)


def test_two_steps_by_hand():
    # On real images of 2 the slope grows by 0.2, then it falls by 0.1 on generated images of 1: 1.1, as in one step of
    # plain SGD. With momentum 0.9 the second step carries 0.9 of the first: 1 + 0.2 + (0.9 * 0.2 - 0.1) = 1.28.
    options = {"step": gan_variants.two_steps, "hr": jnp.full_like(HR, 2.0)}
    np.testing.assert_allclose(_train_game(**options)[0][0, :2], [1.11, 1.1], rtol=1e-6)
    np.testing.assert_allclose(_train_game(rate_d=optax.sgd(0.1, momentum=0.9), **options)[0][0, 1], 1.28, rtol=1e-6)


def test_discriminator_to_generator_ratio():
    # Each update of D lowers its slope by rate x value = 0.1, so three leave 0.7, and G then grows by 0.07.
    several = {"step": gan_variants.several_updates, "discriminator_updates": 3}
    three, _ = _train_game(batches=[HR] * 3, **several)
    np.testing.assert_allclose(three[0, :2], [1.07, 0.7], rtol=1e-6)
    # D is updated in every second update only: the first and the third.
    every, _ = _train_game(steps_=3, every=2)
    slopes = [1.0, *every[:, 1]]
    assert slopes[1] < slopes[0] and slopes[2] == slopes[1] and slopes[3] < slopes[2]


def test_generator_learns_on_its_own_batch():
    """D's batch is white, G's is black: the pixel loss is that of black, D's slope grows towards white."""
    batches, losses = [jnp.ones_like(HR) * 2, HR], {"pixel": ("mse", 1.0)}
    path, metrics = _train_game(step=gan_variants.several_updates, batches=batches, losses=losses, weight=0.0)
    assert path[0, 1] == pytest.approx(1 + 0.1 * (2 - 1))
    assert metrics["pixel"] == pytest.approx(4.0)  # 1 from black; (2 * 1)^2 on [-1, 1]


def test_historical_averaging_damps_oscillation():
    """The game `value x slope` circles its equilibrium (0, 0) for ever; historical averaging pulls both inwards."""
    free, _ = _train_game(steps_=400)
    held, _ = _train_game(steps_=400, history=0.5)
    radius = lambda path: np.hypot(path[:, 0], path[:, 1])[-100:].max()  # noqa: E731
    assert radius(free) > 1.0 > 0.3 > radius(held)  # as the initial values lose their weight in the mean


def test_history_is_the_mean_of_all_past_parameters():
    game = make_game(Constant(), Brightness(), losses={"adversarial": ("wgan", 1.0)}, history=0.3)
    state = init_state(game, 8, 4)
    values = [float(state.generator.params["value"])]
    for _ in range(5):
        state, _ = gan_step(state, [{"hr": HR, "lr": LR}], game)
        values.append(float(state.generator.params["value"]))
    assert float(state.generator.history["value"]) == pytest.approx(np.mean(values), rel=1e-5)


def test_label_smoothing_bounds_the_logits():
    """D separates images of 0 and 1 perfectly: its logits grow without bound, or with smoothing to log(0.9 / 0.1)."""
    options = {"rate_g": 0.0, "rate_d": 3.0, "steps_": 600, "adversarial": "bce"}
    sure, _ = _train_game(**options)
    smooth, _ = _train_game(label_smoothing=0.1, **options)
    assert sure[-1, 2] > 5  # real images are 0: their logit is the offset
    assert smooth[-1, 2] == pytest.approx(np.log(9), rel=0.02)
    with pytest.raises(ValueError, match="no labels to smooth"):
        _train_game(adversarial="hinge", label_smoothing=0.1)


def test_gradient_penalty_by_hand():
    # Logits sum(w * image) have the gradient w, on [-1, 1] half of it: 192 values of 0.25 have a length of 3.4641,
    # so the penalty is (1.7320 - 1)^2 wherever the gradient is taken.
    penalty = penalties.gradient_penalty(lambda image: 0.25 * image.sum(axis=(1, 2, 3)), HR, HR + 1, KEYS)
    np.testing.assert_allclose(penalty, [(np.sqrt(192) * 0.25 / 2 - 1) ** 2] * 4, rtol=1e-5)


def test_gradient_penalty_bounds_the_critics_gradient():
    """The Wasserstein critic's slope falls without bound, or with the penalty until its gradient's norm is 2.386."""
    options = {"rate_g": 0.0, "rate_d": 2.0, "steps_": 500}
    free, _ = _train_game(**options)
    held, metrics = _train_game(penalty=10.0, **options)
    length = np.abs([free[-1, 1], held[-1, 1]]) / np.sqrt(192) / 2  # each of 192 pixels has slope / 192
    # The loss is slope + 10 (|slope| / 27.7 - 1)^2: its minimum is where 20 / 27.7 (length - 1) = 1, at 2.386.
    assert length[0] > 20 and length[1] == pytest.approx(2.386, rel=0.01)
    assert metrics["gradient_penalty"] > 0


def _discriminator_step(game, d, batch, sr):
    """Updates the discriminator alone; returns its state and the metrics."""
    generated = Generated(sr, lambda cotangent: (), {})
    grads, stats, metrics = discriminator_gradient(game, d, batch, generated, jnp.int32(0))
    return apply_gradient(d, grads, stats, game.discriminator.optimizer, jnp.int32(0)), metrics


@pytest.mark.parametrize("kernels", [0, 8])
def test_minibatch_discrimination_detects_a_collapsed_generator(kernels):
    """Each generated image is like a real one, dark or light; but all of a batch are equally dark or light."""
    fields = {"name": "srgan", "width": 4, "dense": 8, "crop_px": 16, "norm": "none", "minibatch_kernels": kernels}
    module = models.build(models.DISCRIMINATORS, fields)
    optimizer = optimizers.create_optimizer(StageConfig(total_steps=100), 3e-3)
    game = make_game(Constant(), module, d_rate=optimizer)
    d = create_network_state(module, optimizer, jax.random.key(0), {"image": jnp.zeros((1, 16, 16, 3))})
    step = jax.jit(functools.partial(_discriminator_step, game))
    rng, accuracies = np.random.default_rng(0), []
    for _ in range(150):
        light = 0.2 + 0.6 * rng.permutation([0, 1] * 4)[:, None, None, None]
        alike = 0.2 + 0.6 * rng.integers(2)
        noise = rng.normal(0, 0.02, (2, 8, 16, 16, 3))
        d, metrics = step(d, {"hr": jnp.asarray(light + noise[0]), "lr": None}, jnp.asarray(alike + noise[1]))
        accuracies.append((metrics["d_accuracy_real"] + metrics["d_accuracy_fake"]) / 2)
    accuracy = np.mean(accuracies[-30:])
    assert accuracy > 0.95 if kernels else accuracy < 0.75


def test_minibatch_discrimination_by_hand():
    """Without `axis_name` each sample is compared with all others of the batch."""
    module = discriminator_layers.MinibatchDiscrimination(kernels=2, size=3)
    x = jax.random.normal(jax.random.key(0), (3, 5))
    variables = module.init(jax.random.key(1), x)
    projected = (x @ variables["params"]["project"]["kernel"]).reshape(3, 2, 3)
    expected = np.zeros((3, 2))
    for i in range(3):
        for j in set(range(3)) - {i}:
            expected[i] += np.exp(-np.abs(projected[i] - projected[j]).sum(axis=1))
    result = module.apply(variables, x)
    np.testing.assert_array_equal(result[:, :5], x)
    np.testing.assert_allclose(result[:, 5:], expected, rtol=1e-4)


def test_minibatch_discrimination_spans_the_devices_of_a_pmap():
    module = discriminator_layers.MinibatchDiscrimination(kernels=2, axis_name="data")
    x = jax.random.normal(jax.random.key(0), (4, 5))
    variables = module.init(jax.random.key(1), x)
    whole = discriminator_layers.MinibatchDiscrimination(kernels=2).apply(variables, x)
    parts = jax.pmap(module.apply, axis_name="data", in_axes=(None, 0))(variables, x.reshape(4, 1, 5))
    np.testing.assert_allclose(parts[:, 0], whole, rtol=1e-5)


def test_spectral_norm_is_the_largest_singular_value():
    module = discriminator_layers.SpectralConv(8, 3, use_bias=False)
    x = jax.random.normal(jax.random.key(0), (1, 6, 6, 4))
    variables = module.init(jax.random.key(1), x)
    for _ in range(60):  # power iterations
        changed = module.apply(variables, x, train=True, mutable=["batch_stats"])[1]
        variables = variables | changed
    kernel = variables["params"]["kernel"]
    largest = np.linalg.svd(np.asarray(kernel).reshape(-1, 8), compute_uv=False)[0]
    plain = nn.Conv(8, (3, 3), padding=1, use_bias=False).apply({"params": {"kernel": kernel}}, x)
    np.testing.assert_allclose(module.apply(variables, x), plain / largest, atol=1e-4)
    twice = {"params": {"kernel": 2 * kernel}, "batch_stats": variables["batch_stats"]}
    np.testing.assert_allclose(module.apply(twice, x), plain / largest, atol=1e-4)  # the kernel's norm doesn't matter


def test_dropout_depends_on_each_samples_key():
    x = jnp.ones((4, 50, 50))
    dropped = discriminator_layers.dropout(x, 0.3, KEYS)
    assert set(np.unique(dropped)) == {0.0, np.float32(1 / 0.7)}
    assert float((dropped == 0).mean()) == pytest.approx(0.3, abs=0.02)
    np.testing.assert_array_equal(discriminator_layers.dropout(x[2:], 0.3, KEYS[2:]), dropped[2:])
    with pytest.raises(ValueError, match="needs a key for each sample"):
        discriminator_layers.dropout(x, 0.3, None)


DISCRIMINATORS = [
    {"name": "srgan", "crop_px": 16, "dense": 8, "minibatch_kernels": 2, "negative_slope": 0.01, "dropout": 0.1},
    {"name": "srgan", "head": "patch", "spectral_norm": True, "norm": "none", "minibatch_kernels": 2},
    {"name": "srgan", "head": "positions", "dense": 8, "strides": "one", "block_order": "activation_norm"},
    {"name": "unet", "minibatch_kernels": 2},
    {"name": "vgg", "crop_px": 16, "dense": 8},
]
MAPS = [
    (1,),
    (1, 1, 1),
    (16, 16, 1),
    (16, 16, 1),
    (1,),
]  # a logit for an image; for each patch of 16 px; for each pixel


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        pytest.param(fields, shape, marks=pytest.mark.slow if fields.get("head") else [])
        for fields, shape in zip(DISCRIMINATORS, MAPS, strict=True)
    ],
    ids=str,
)
def test_an_update_changes_every_parameter_of_each_discriminator(fields, shape):
    module = models.build(models.DISCRIMINATORS, {"width": 4, **fields})
    game = make_game(Constant(), module, d_rate=1.0)
    d = create_network_state(module, optax.sgd(1.0), jax.random.key(0), {"image": jnp.zeros((1, 16, 16, 3))})
    real, fake = jax.random.uniform(jax.random.key(1), (2, 4, 16, 16, 3))
    batch = {"hr": real, "keys": KEYS, "lr": None}
    after, metrics = jax.jit(functools.partial(_discriminator_step, game))(d, batch, fake)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), after.params, d.params)
    assert all(leaf > 0 for leaf in jax.tree.leaves(moved)), moved
    variables = {"params": d.params, "batch_stats": d.batch_stats}
    assert jax.eval_shape(module.apply, variables, real).shape == (4, *shape)
    assert np.isfinite(metrics["d_loss"])


def test_unet_refuses_sides_that_are_not_divisible_by_8():
    with pytest.raises(ValueError, match=r"sides divisible by 8, got \(12, 16\)"):
        models.build(models.DISCRIMINATORS, {"name": "unet"}).init(jax.random.key(0), jnp.zeros((1, 12, 16, 3)))


def test_balance_guard_warns_once():
    guard = balance.BalanceMonitor(0.98)
    won, lost = ({"d_accuracy_real": 1.0, "d_accuracy_fake": fake} for fake in (1.0, 0.6))
    lines = [guard.line(metrics) for metrics in [won] * 9 + [lost] + [won] * 12 + [lost] * 2]
    assert [index for index, line in enumerate(lines) if line] == [19, 22]
    assert "classified 100% of real and 100% of generated images correctly" in lines[19]
    assert lines[22] == "the discriminator no longer wins"
    assert not any(guard.line({"loss": 1.0}) for _ in range(20))  # pretraining has no discriminator
