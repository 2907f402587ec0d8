import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import srgan_jax
from srgan_jax import models
from srgan_jax.evaluation import pairs, scoring
from srgan_jax.losses import ADVERSARIAL, content
from srgan_jax.ops import color, resize
from srgan_jax.training import gan_step, optimizers, pretrain_step
from srgan_jax.training.state import create_train_state

CROP = 32
GENERATOR = models.build(models.GENERATORS, {"name": "srresnet", "blocks": 1, "width": 8})
DISCRIMINATOR = models.build(models.DISCRIMINATORS, {"name": "srgan", "width": 4, "dense": 8, "crop_px": CROP})
CONTENT = {"pixel": "mse", "pixel_weight": 1.0}


@pytest.fixture(scope="module")
def batch(photo):
    hr = jnp.stack([color.from_uint8(photo[y : y + CROP, y : y + CROP]) for y in (60, 100, 140, 180)])
    return {"hr": hr, "lr": resize.downscale(hr, 4)}


def _features(image):
    """A stand-in for VGG19: edges at two places."""
    return {"relu1_1": image[:, 1:] - image[:, :-1], "relu1_2": image[:, :, 1:] - image[:, :, :-1]}


def _pretrain(optimizer, features=None, **losses):
    step = functools.partial(
        pretrain_step.pretrain_step, generator=GENERATOR, optimizer=optimizer, losses=losses or CONTENT
    )
    state = create_train_state(0, GENERATOR, optimizer, crop_px=CROP)
    return state, jax.jit(lambda state, batch: step(state, batch, features))


def _gan(g_optimizer, d_optimizer, losses=None, **kwargs):
    networks = {"discriminator": DISCRIMINATOR, "discriminator_optimizer": d_optimizer}
    state = create_train_state(0, GENERATOR, g_optimizer, crop_px=CROP, **networks)
    options = {"generator": GENERATOR, "optimizer": g_optimizer, "losses": CONTENT if losses is None else losses}
    return state, functools.partial(gan_step.gan_step, **options, **networks, **kwargs)


TERMS = {
    "pixel": {"pixel": "l1", "pixel_weight": 1.0},
    "perceptual": {"pixel_weight": 0.0, "perceptual": "mse", "perceptual_weight": 1.0},
    "total_variation": {"pixel_weight": 0.0, "tv_weight": 2e-8},
}


@pytest.mark.parametrize("term", TERMS)
def test_every_content_term_reaches_every_parameter(batch, term):
    state, step = _pretrain(optax.sgd(1.0), _features, **TERMS[term])
    after, metrics = step(state, batch)
    assert set(metrics) == {"loss", term} and metrics[term] > 0
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), after.generator.params, state.generator.params)
    # The smallest float32 steps may vanish beside a weight: the total variation of weight 2e-8 moves slopes of 0.25 by
    # less than their round-off. The gradient itself must not be zero.
    grads = jax.jit(jax.grad(lambda p: _content(p, batch, state, TERMS[term])))(state.generator.params)
    assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads))
    assert max(jax.tree.leaves(moved)) > 0


def _content(params, batch, state, losses):
    variables = {"params": params, "batch_stats": state.generator.batch_stats}
    sr, _ = GENERATOR.apply(variables, batch["lr"], train=True, mutable=["batch_stats"])
    return sum(content.content_terms(sr, batch["hr"], _features, **losses).values())


@pytest.mark.parametrize("adversarial", ADVERSARIAL)
def test_adversarial_term_reaches_every_parameter(batch, adversarial):
    state, step = _gan(optax.sgd(1.0), optax.sgd(0.0), {"pixel_weight": 0.0}, adversarial=adversarial)
    after, metrics = jax.jit(step)(state, batch)
    assert {"adversarial", "d_loss"} < set(metrics) and metrics["loss"] == metrics["adversarial"] != 0
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), after.generator.params, state.generator.params)
    assert all(leaf > 0 for leaf in jax.tree.leaves(moved))


def test_every_parameter_of_the_discriminator_moves(batch):
    state, step = _gan(optax.sgd(0.0), optax.sgd(1.0))
    after, _ = jax.jit(step)(state, batch)
    jax.tree.map(np.testing.assert_array_equal, after.generator.params, state.generator.params)
    moved = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max()), after.discriminator.params, state.discriminator.params
    )
    assert all(leaf > 0 for leaf in jax.tree.leaves(moved))


@pytest.mark.slow
def test_gan_step_equals_the_same_written_out(batch):
    """D on real and fake apart, then G against the updated D, by separate gradients of separate forward passes."""
    weight, learning_rate = 0.5, 0.1
    state, step = _gan(optax.sgd(learning_rate), optax.sgd(learning_rate), adversarial_weight=weight)
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
    options = {"pixel_weight": 0.0, "perceptual": "l1", "perceptual_weight": 2.0}
    sr, hr = batch["hr"] * 0.5, batch["hr"]
    alone = [
        float(content.content_terms(sr, hr, _features, perceptual_tap_weights=weights, **options)["perceptual"])
        for weights in ((1.0, 0.0), (0.0, 1.0), (0.1, 3.0), ())
    ]
    assert alone[2] == pytest.approx(0.1 * alone[0] + 3.0 * alone[1], rel=1e-5)
    assert alone[3] == pytest.approx(alone[0] + alone[1], rel=1e-5)


def test_average_covers_parameters_and_statistics(batch):
    state, step = _pretrain(optax.sgd(0.1))
    after, _ = step(state, batch)
    # The decay warms up: at the first update it is (1 + 0) / (10 + 0).
    for part in ("params", "batch_stats"):
        expected = jax.tree.map(lambda a, b: 0.1 * a + 0.9 * b, state.ema[part], getattr(after.generator, part))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), after.ema[part], expected)
    assert after.step == 1


def test_adam_is_optax_adam(batch):
    optimizer = optimizers.create_optimizer(1e-3, 100, b1=0.5, b2=0.9)
    state, step = _pretrain(optimizer)
    after, _ = step(state, batch)
    # Adam's first step has the size of the learning rate wherever the gradient is well above epsilon.
    change = jnp.abs(after.generator.params["conv_in"]["kernel"] - state.generator.params["conv_in"]["kernel"])
    assert float(jnp.median(change)) == pytest.approx(1e-3, rel=1e-2)


def test_muon_moves_kernels_by_the_same_in_every_direction():
    """Its first update is that of the gradient's singular vectors, all singular values about 1 instead of their own."""
    random = np.random.default_rng(0)
    grads = {"conv": {"kernel": random.normal(size=(3, 3, 4, 8)), "bias": random.normal(size=8)}}
    grads["conv"]["kernel"][..., 0] *= 100.0  # singular values from about 4 to 500
    grads = jax.tree.map(jnp.float32, grads)
    optimizer = optimizers.create_optimizer(1e-3, 100, optimizer="muon")
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
    optimizer = optimizers.create_optimizer(0.01, 100, optimizer=name, weight_decay=0.5)
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
        ("piecewise", {"drops": (0.25, 0.5), "drop_factor": 0.5}, {249: 1e-4, 250: 5e-5, 500: 2.5e-5}),
        ("cosine", {"warmup_steps": 100}, {0: 0.0, 50: 5e-5, 100: 1e-4, 1000: 0.0}),
    ],
)
def test_schedules(schedule, kwargs, expected):
    options = {"drops": (), "warmup_steps": 0} | kwargs
    rate = optimizers.SCHEDULES[schedule](1e-4, 1000, **options)
    for step, value in expected.items():
        assert float(rate(step)) == pytest.approx(value, abs=1e-9), step


@pytest.mark.slow
def test_generator_learns_one_crop(photo):
    """Overfitting: more than 40 dB on the crop it is trained on, from the bicubic 29."""
    hr = photo[96:128, 128:160]
    pair = pairs.make_pair("crop", hr, 4)
    fields = {"name": "srresnet", "blocks": 2, "width": 24, "norm": "none", "base": "bicubic"}
    generator = models.build(models.GENERATORS, fields)
    optimizer = optimizers.create_optimizer(3e-3, 1200, schedule="cosine")
    state = create_train_state(0, generator, optimizer, crop_px=32)
    batch = {"lr": color.from_uint8(pair.lr)[None], "hr": color.from_uint8(pair.hr)[None]}
    step = jax.jit(
        functools.partial(pretrain_step.pretrain_step, generator=generator, optimizer=optimizer, losses=CONTENT),
        donate_argnums=0,
    )
    for _ in range(1200):
        state, _ = step(state, batch)
    params = srgan_jax.make_weights(dict(state.ema), fields)

    def psnr(result):
        return scoring.score([pair], [np.asarray(result)], border=0)[0]["psnr_y"]

    assert psnr(srgan_jax.upscale(params, pair.lr)) > 40 > 32 > psnr(scoring.bicubic(pair.lr, 4))
