import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from game_helpers import PIXEL, make_game, weighted

import srgan_jax
from srgan_jax import models
from srgan_jax.config.schema import StageConfig
from srgan_jax.evaluation import pairs, scoring
from srgan_jax.losses import ADVERSARIAL, Views
from srgan_jax.losses.terms import weighted_sum
from srgan_jax.ops import color, resize
from srgan_jax.training import optimizers
from srgan_jax.training.gan_step import gan_step
from srgan_jax.training.grad_balance import balanced_gradient
from srgan_jax.training.pretrain_step import pretrain_step
from srgan_jax.training.stage import init_state

CROP = 32
GENERATOR = models.build(models.GENERATORS, {"name": "srresnet", "blocks": 1, "width": 8})
DISCRIMINATOR = models.build(models.DISCRIMINATORS, {"name": "srgan", "width": 4, "dense": 8, "crop_px": CROP})


@pytest.fixture(scope="module")
def batch(photo):
    hr = jnp.stack([color.from_integers(photo[y : y + CROP, y : y + CROP]) for y in (60, 100, 140, 180)])
    return {"hr": hr, "lr": resize.downscale(hr, 4)}


def _features(image):
    """Returns edges in two directions in place of VGG19's features."""
    return {"relu1_1": image[:, 1:] - image[:, :-1], "relu1_2": image[:, :, 1:] - image[:, :, :-1]}


def _pretrain(optimizer, features=None, losses=PIXEL):
    game = make_game(GENERATOR, g_rate=optimizer, losses=losses, features=features)
    return init_state(game, CROP, 4), jax.jit(lambda state, batch: pretrain_step(state, [batch], game))


def _gan(g_optimizer, d_optimizer, losses=PIXEL, adversarial="bce", weight=1e-3):
    losses = losses | {"adversarial": (adversarial, weight)}
    options = {"g_rate": g_optimizer, "d_rate": d_optimizer, "losses": losses}
    game = make_game(GENERATOR, DISCRIMINATOR, d_losses={"d_loss": (adversarial, 1.0)}, **options)
    return init_state(game, CROP, 4), lambda state, batch: gan_step(state, [batch], game)


TAPS = {"taps": ("relu1_1", "relu1_2")}
TERMS = {
    "pixel": {"pixel": ("l1", 1.0)},
    "perceptual": {"perceptual": ("perceptual", 1.0, TAPS)},
    "total_variation": {"total_variation": ("total_variation", 2e-8)},
}


@pytest.mark.parametrize("term", TERMS)
def test_every_content_term_has_a_gradient_for_every_parameter(batch, term):
    state, step = _pretrain(optax.sgd(1.0), _features, TERMS[term])
    after, metrics = step(state, batch)
    assert set(metrics) == {"loss", term, f"{term}_unweighted", "grad_norm/generator"} and metrics[term] > 0
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), after.generator.params, state.generator.params)
    # In float32 a small step may be lost to rounding: the total variation of weight 2e-8 changes slopes of 0.25 by
    # less than their round-off. The gradient itself must not be zero.
    grads = jax.jit(jax.grad(lambda p: _content(p, batch, state, TERMS[term])))(state.generator.params)
    assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads))
    assert max(jax.tree.leaves(moved)) > 0


def _content(params, batch, state, losses):
    variables = {"params": params, "batch_stats": state.generator.batch_stats}
    sr, _ = GENERATOR.apply(variables, batch["lr"], train=True, mutable=["batch_stats"])
    return weighted_sum(weighted(losses), _views(sr, batch["hr"]), 0)[0]


def _views(sr, hr):
    ours, theirs = _features(sr), _features(hr)
    return Views(sr, hr, features={tap: (ours[tap], theirs[tap]) for tap in ours})


@pytest.mark.parametrize(
    "adversarial", [pytest.param(name, marks=pytest.mark.slow if name != "bce" else []) for name in ADVERSARIAL]
)
def test_adversarial_term_changes_every_parameter(batch, adversarial):
    state, step = _gan(optax.sgd(1.0), optax.sgd(0.0), {}, adversarial)
    after, metrics = jax.jit(step)(state, batch)
    assert {"adversarial", "d_loss"} < set(metrics) and metrics["loss"] == metrics["adversarial"] != 0
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), after.generator.params, state.generator.params)
    assert all(leaf > 0 for leaf in jax.tree.leaves(moved))


def test_an_update_changes_every_parameter_of_the_discriminator(batch):
    state, step = _gan(optax.sgd(0.0), optax.sgd(1.0))
    after, _ = jax.jit(step)(state, batch)
    jax.tree.map(np.testing.assert_array_equal, after.generator.params, state.generator.params)
    moved = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max()), after.discriminator.params, state.discriminator.params
    )
    assert all(leaf > 0 for leaf in jax.tree.leaves(moved))


@pytest.mark.slow
def test_gan_step_equals_a_plain_implementation(batch):
    """Updates D on real and fake separately, then G against the updated D, by gradients of separate forward passes."""
    weight, learning_rate = 0.5, 0.1
    state, step = _gan(optax.sgd(learning_rate), optax.sgd(learning_rate), weight=weight)
    after, metrics = jax.jit(step)(state, batch)
    g, d = state.generator, state.discriminator
    loss_d, loss_g, _ = ADVERSARIAL["bce"]

    def run(module, params, stats, image):
        return module.apply({"params": params, "batch_stats": stats}, image, train=True, mutable=["batch_stats"])

    def d_loss(params):
        sr, _ = run(GENERATOR, g.params, g.batch_stats, batch["lr"])
        real, first = run(DISCRIMINATOR, params, d.batch_stats, batch["hr"])
        fake, second = run(DISCRIMINATOR, params, first["batch_stats"], sr)
        return loss_d(real, fake), second["batch_stats"]

    (value, d_stats), d_grads = jax.jit(jax.value_and_grad(d_loss, has_aux=True))(d.params)
    d_params = jax.tree.map(lambda p, grad: p - learning_rate * grad, d.params, d_grads)

    def g_loss(params):
        sr, changed = run(GENERATOR, params, g.batch_stats, batch["lr"])
        fake, _ = run(DISCRIMINATOR, d_params, d_stats, sr)
        # MSE on [-1, 1] is four times that on [0, 1].
        return 4 * jnp.square(sr - batch["hr"]).mean() + weight * loss_g(fake, fake), changed["batch_stats"]

    (total, g_stats), g_grads = jax.jit(jax.value_and_grad(g_loss, has_aux=True))(g.params)
    g_params = jax.tree.map(lambda p, grad: p - learning_rate * grad, g.params, g_grads)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    close(metrics["d_loss"], value)
    close(metrics["loss"], total)
    expected = (d_params, d_stats, g_params, g_stats)
    found = (
        after.discriminator.params,
        after.discriminator.batch_stats,
        after.generator.params,
        after.generator.batch_stats,
    )
    jax.tree.map(close, found, expected)


def test_tap_weights_weigh_each_feature_map(batch):
    views = _views(batch["hr"] * 0.5, batch["hr"])

    def value(tap_weights):
        options = TAPS | {"distance": "l1", "tap_weights": tap_weights}
        return float(weighted_sum(weighted({"perceptual": ("perceptual", 2.0, options)}), views, 0)[0])

    alone = [value(weights) for weights in ((1.0, 0.0), (0.0, 1.0), (0.1, 3.0), ())]
    assert alone[2] == pytest.approx(0.1 * alone[0] + 3.0 * alone[1], rel=1e-5)
    assert alone[3] == pytest.approx(alone[0] + alone[1], rel=1e-5)
    with pytest.raises(ValueError, match=r"tap_weights=\(1\.0,\): expected one number for each of the 2 taps"):
        value((1.0,))


def test_average_covers_parameters_and_statistics(batch):
    state, step = _pretrain(optax.sgd(0.1))
    after, _ = step(state, batch)
    # The decay warms up: at the first update it is (1 + 0) / (10 + 0).
    for part in ("params", "batch_stats"):
        expected = jax.tree.map(lambda a, b: 0.1 * a + 0.9 * b, state.ema[part], getattr(after.generator, part))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), after.ema[part], expected)
    assert after.step == 1


def test_adam_uses_both_betas():
    """Three updates with gradients 1, -1 and 2, compared with arithmetic and with `optax.adam`."""

    def updates(optimizer):
        state, found = optimizer.init({"kernel": jnp.zeros(())}), []
        for grad in (1.0, -1.0, 2.0):
            update, state = optimizer.update({"kernel": jnp.float32(grad)}, state, {"kernel": jnp.zeros(())})
            found.append(float(update["kernel"]))
        return found

    stage = StageConfig(total_steps=100, schedule="constant", b1=0.5, b2=0.75)
    found = updates(optimizers.create_optimizer(stage, 1e-3))
    # m: 0.5, 0.5 * 0.5 - 0.5 = -0.25, -0.125 + 1 = 0.875; divided by 1 - 0.5^n: 1, -1/3, 1.
    # v: 0.25, 0.75 * 0.25 + 0.25 = 0.4375, 0.328125 + 1 = 1.328125; divided by 1 - 0.75^n: 1, 1, 2.297297.
    # The updates are -learning_rate * m / sqrt(v): -1, 1/3, and -1 / sqrt(2.297297) = -0.659768 thousandths.
    assert found == pytest.approx([-1e-3, 1e-3 / 3, -0.659768e-3], rel=1e-5)
    assert found == pytest.approx(updates(optax.adam(1e-3, b1=0.5, b2=0.75)), rel=1e-6)


def test_muons_first_update_has_nearly_equal_singular_values():
    """It has the gradient's singular vectors, with all singular values replaced by about 1."""
    random = np.random.default_rng(0)
    grads = {"conv": {"kernel": random.normal(size=(3, 3, 4, 8)), "bias": random.normal(size=8)}}
    grads["conv"]["kernel"][..., 0] *= 100.0  # singular values from about 4 to 500
    grads = jax.tree.map(jnp.float32, grads)
    optimizer = optimizers.create_optimizer(StageConfig(total_steps=100, optimizer="muon"), 1e-3)
    updates, _ = optimizer.update(grads, optimizer.init(grads), grads)
    left, values, right = np.linalg.svd(np.asarray(grads["conv"]["kernel"]).reshape(36, 8), full_matrices=False)
    assert values.max() > 50 * values.min()
    turned = left.T @ np.asarray(updates["conv"]["kernel"]).reshape(36, 8) @ right.T
    # 0.2 learning rates by the root of the larger side, 36; Jordan's five iterations end at about 0.7 to 1.2 of that
    # for values above a hundredth of the largest.
    size = 0.2 * 1e-3 * np.sqrt(36)
    assert np.all((-turned.diagonal() / size > 0.6) & (-turned.diagonal() / size < 1.3))
    np.testing.assert_allclose(turned - np.diag(turned.diagonal()), 0.0, atol=1e-3 * size)
    # All else by Adam with Nesterov's momentum (Dozat, 2016), whose first step is 0.9 * 0.1 / (1 - 0.9^2) + 1 times the
    # learning rate against the gradient's sign.
    expected = -(0.09 / 0.19 + 1) * 1e-3 * np.sign(grads["conv"]["bias"])
    np.testing.assert_allclose(updates["conv"]["bias"], expected, rtol=1e-4)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_weight_decay_shrinks_kernels_alone(name):
    """Without gradients 10 updates at a rate of 0.01 with a decay of 0.5 leave (1 - 0.005)^10 of a kernel."""
    params = {"conv": {"kernel": jnp.full((3, 3, 2, 4), 2.0), "bias": jnp.full(4, 2.0)}}
    optimizer = optimizers.create_optimizer(StageConfig(total_steps=100, optimizer=name, weight_decay=0.5), 0.01)
    state = optimizer.init(params)
    for _ in range(10):
        updates, state = optimizer.update(jax.tree.map(jnp.zeros_like, params), state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["conv"]["kernel"], 2.0 * 0.995**10, rtol=1e-5)
    np.testing.assert_array_equal(params["conv"]["bias"], 2.0)


@pytest.mark.parametrize(
    ("schedule", "kwargs", "expected"),
    [
        ("constant", {}, {0: 1e-4, 999: 1e-4}),
        ("piecewise", {"drops": (0.5,)}, {0: 1e-4, 499: 1e-4, 500: 1e-5, 999: 1e-5}),
        ("piecewise", {"drops": (0.25, 0.5)}, {249: 1e-4, 250: 1e-5, 500: 1e-6}),
        ("piecewise", {"drops": (0.25, 0.5), "drop_factor": 0.5}, {249: 1e-4, 250: 5e-5, 500: 2.5e-5}),
        ("cosine", {"warmup_steps": 0}, {0: 1e-4, 500: 5e-5, 1000: 0.0}),
        ("cosine", {"warmup_steps": 100}, {0: 0.0, 50: 5e-5, 100: 1e-4, 1000: 0.0}),
    ],
)
def test_schedules(schedule, kwargs, expected):
    options = {"drops": (), "warmup_steps": 0} | kwargs
    rate = optimizers.SCHEDULES[schedule](1e-4, 1000, **options)
    for step, value in expected.items():
        assert float(rate(step)) == pytest.approx(value, abs=1e-9), step


@pytest.mark.slow
def test_generator_overfits_one_crop(photo):
    """More than 40 dB on the crop that it is trained on; bicubic has 29."""
    hr = photo[96:128, 128:160]
    pair = pairs.make_pair("crop", hr, 4)
    fields = {"name": "srresnet", "blocks": 2, "width": 24, "norm": "none", "base": "bicubic"}
    generator = models.build(models.GENERATORS, fields)
    optimizer = optimizers.create_optimizer(StageConfig(total_steps=500, schedule="cosine"), 3e-3)
    game = make_game(generator, g_rate=optimizer)
    state = init_state(game, 32, 4)
    batch = {"lr": color.from_integers(pair.lr)[None], "hr": color.from_integers(pair.hr)[None]}
    step = jax.jit(lambda state, batch: pretrain_step(state, [batch], game), donate_argnums=0)
    for _ in range(500):
        state, _ = step(state, batch)
    params = srgan_jax.make_weights(dict(state.ema), fields)

    def psnr(result):
        return scoring.score([pair], [np.asarray(result)], border=0)[0]["psnr_y"]

    assert psnr(srgan_jax.upscale(params, pair.lr)) > 40 > 32 > psnr(scoring.bicubic(pair.lr, 4))


class _TwoHeads(nn.Module):
    """A discriminator on features with two heads: a logit for each position, and one for the image."""

    @nn.compact
    def __call__(self, features, *, train=False, keys=None):
        edges = features["relu1_1"]
        return nn.Conv(1, (3, 3))(edges), nn.Dense(1)(edges.mean(axis=(1, 2)))


def test_a_discriminator_may_take_features_and_have_several_heads(batch):
    losses = PIXEL | {"adversarial": ("bce", 1.0)}
    game = make_game(GENERATOR, _TwoHeads(), losses=losses, features=_features, takes=("features",))
    state = init_state(game, CROP, 4)
    after, metrics = jax.jit(lambda state, batch: gan_step(state, [batch], game))(state, batch)
    for network in ("generator", "discriminator"):
        before, moved = (getattr(each, network).params for each in (state, after))
        change = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), before, moved)
        assert max(jax.tree.leaves(change)) > 0, network
    # The mean over the heads, by hand: BCE of each head's logits on features of HR and of SR.
    variables = {"params": state.generator.params, "batch_stats": state.generator.batch_stats}
    sr, _ = GENERATOR.apply(variables, batch["lr"], train=True, mutable=["batch_stats"])
    real, fake = (
        _TwoHeads().apply({"params": state.discriminator.params}, _features(image)) for image in (batch["hr"], sr)
    )
    expected = np.mean([ADVERSARIAL["bce"].discriminator(r, f) for r, f in zip(real, fake, strict=True)])
    assert float(metrics["d_loss"]) == pytest.approx(float(expected), rel=1e-4)


def test_fractions_of_the_gradient_on_sr(batch):
    """Of two terms that differ by a factor of 3 alone, one has a quarter and the other three quarters."""
    losses = {"one": ("mse", 1.0), "three": ("mse", 3.0)}
    game = make_game(GENERATOR, losses=losses, grad_share=True)
    _, metrics = jax.jit(lambda state, batch: pretrain_step(state, [batch], game))(init_state(game, CROP, 4), batch)
    assert float(metrics["grad_share/one"]) == pytest.approx(0.25, rel=1e-5)
    assert float(metrics["grad_share/three"]) == pytest.approx(0.75, rel=1e-5)
    assert float(metrics["three"]) == pytest.approx(3 * float(metrics["three_unweighted"]), rel=1e-6)


def test_a_weight_may_be_a_function_of_the_step(batch):
    views = _views(batch["hr"] * 0.5, batch["hr"])
    terms = weighted({"pixel": ("mse", lambda step: 0.5 * step)})
    totals = [float(weighted_sum(terms, views, jnp.int32(step))[0]) for step in (0, 1, 4)]
    assert totals == pytest.approx([0.0, totals[1], 4 * totals[1]], rel=1e-6) and totals[1] > 0


def test_an_adaptive_weight_keeps_the_ratio_of_the_gradients(batch):
    """Of two terms with parallel gradients, whatever their weights, the adaptive one gets half the other's norm."""
    rates = {"g_rate": 0.0}
    found = []
    for weight in (1.0, 100.0):
        losses = (*weighted({"pixel": ("mse", 1.0)}), weighted({"other": ("mse", weight)})[0]._replace(grad_ratio=0.5))
        game = make_game(GENERATOR, grad_share=True, **rates)
        game = dataclasses.replace(game, generator=game.generator._replace(losses=losses))
        state = init_state(game, CROP, 4)
        step = jax.jit(lambda state, batch, game=game: pretrain_step(state, [batch], game))
        for _ in range(3):
            state, metrics = step(state, batch)
        found.append({name: float(value) for name, value in metrics.items()})
        assert float(state.grad_scale) == found[-1]["grad_scale"] == pytest.approx(0.5 / weight, rel=1e-5)
        # value of the adaptive term: half of the pixel term's, as both are the same MSE with parallel gradients
        assert found[-1]["other"] == pytest.approx(0.5 * found[-1]["pixel"], rel=1e-5)
        assert found[-1]["loss"] == pytest.approx(1.5 * found[-1]["pixel"], rel=1e-5)
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-5)


def test_an_adaptive_weight_is_smoothed(batch):
    """The factor after n updates is a mean of the ratios so far: decay n / (10 + n) at update n from 0."""
    ratio, scale = 0.3, jnp.float32(1.0)
    terms = (*weighted({"pixel": ("l1", 1.0)}), weighted({"other": ("mse", 1.0)})[0]._replace(grad_ratio=ratio))
    expected = 1.0
    for step, factor in enumerate((0.2, 0.5, 0.9)):
        views = lambda sr: _views(sr, batch["hr"])  # noqa: E731
        sr = batch["hr"] * factor
        _, metrics = balanced_gradient(terms, views, sr, jnp.int32(step), scale)
        scale = metrics["grad_scale"]
        signed = np.asarray(2 * (sr - batch["hr"]), np.float64)  # the losses are on [-1, 1]: gradients have a factor 2
        l1, mse = np.linalg.norm(2 * np.sign(signed)), np.linalg.norm(4 * signed)
        decay = step / (10 + step)
        expected = decay * expected + (1 - decay) * ratio * l1 / mse
        assert float(scale) == pytest.approx(expected, rel=1e-4)
