"""Tests of what the five recipes of other systems are made of, against PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from game_helpers import make_game

from srgan_jax import models
from srgan_jax.degradations import DEGRADATIONS
from srgan_jax.models import layers
from srgan_jax.ops.resize_uint8 import blur_uint8, resize_uint8
from srgan_jax.training import gan_variants
from srgan_jax.training.stage import init_state

torch = pytest.importorskip("torch", reason="PyTorch is not installed (scripts/test.sh --torch)")
F = torch.nn.functional


MODES = {
    "bicubic": {"mode": "bicubic", "antialias": True},
    "bilinear": {"mode": "bilinear", "antialias": True},
    "bilinear_opencv": {"mode": "bilinear"},
    "nearest": {"mode": "nearest-exact"},
}


def _in_torch(image, size, **mode):
    x = torch.from_numpy(np.asarray(image, np.float32)).permute(2, 0, 1)[None]
    return F.interpolate(x, size, **mode)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("size", [(64, 48), (171, 200)])
@pytest.mark.parametrize("kernel", MODES)
def test_resizing_equals_torch(kernel, size, photo):
    image = photo[:139, :111]
    inside = slice(8, -8) if kernel in ("bicubic", "bilinear") else slice(None)  # PyTorch renormalises at the borders
    difference = resize_uint8(image, size, kernel) - np.clip(_in_torch(image, size, **MODES[kernel]), 0, 255)
    assert np.abs(difference[inside, inside]).max() < 0.51


def test_blur_of_an_original_equals_torch(photo):
    """As OpenCV: a 5-tap Gaussian of sigma 4, mirrored borders; then two samples an axis, from 178 x 218 to 64."""
    image = photo[:218, :178]
    taps = torch.exp(-0.5 * torch.arange(-2.0, 3.0) ** 2 / 16)
    kernel = torch.outer(taps, taps) / taps.sum() ** 2
    x = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[:, None]
    blurred = F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel[None, None])[:, 0].permute(1, 2, 0).numpy()
    assert np.abs(blur_uint8(image, 5, 4.0) - blurred).max() < 0.51
    lr = DEGRADATIONS["gaussian_blur"].of_original(image, (64, 64))
    assert np.abs(lr - _in_torch(np.round(blurred), (64, 64), mode="bilinear")).max() <= 1.0


@pytest.mark.parametrize(("size", "side"), [(3, 8), (9, 12), (3, 7)])
def test_keras_padding_of_stride_2(size, side):
    """Keras' "same": (ceil(side / 2) - 1) * 2 + size - side zeros, the odd one at the end; odd sides as one larger."""
    even = side + side % 2
    total = (even // 2 - 1) * 2 + size - even
    before = total // 2
    x = np.random.default_rng(0).normal(size=(1, side, side, 2)).astype(np.float32)
    pad = (layers.padding_of("keras", size, 2, side),) * 2
    layer = layers.conv(3, size, "conv", stride=2, pad=pad, use_bias=False)
    params = layer.init(jax.random.key(0), x)
    kernel = torch.from_numpy(np.array(params["params"]["kernel"])).permute(3, 2, 0, 1)
    after = total - before + side % 2
    padded = F.pad(torch.from_numpy(x).permute(0, 3, 1, 2), (before, after, before, after))
    expected = F.conv2d(padded, kernel, stride=2).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(layer.apply(params, x), expected, atol=1e-5)
    assert expected.shape[1] == even // 2 and layers.padding_of("keras", size, 1, side) == (size // 2,) * 2


@pytest.mark.parametrize("name", ["pytorch", "keras"])
def test_initialisation_equals_that_of_the_library(name):
    """PyTorch: kernels and biases uniform within 1 / sqrt(fan in); Keras: within sqrt(6 / (fan in + fan out)), 0."""
    module = models.build(models.GENERATORS, {"name": "srresnet", "blocks": 1, "initialization": name})
    params = module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]["conv_up_0"]
    fan_in, fan_out = 9 * 64, 9 * 256
    torch.manual_seed(0)
    theirs = torch.nn.Conv2d(64, 256, 3)
    if name == "keras":
        torch.nn.init.xavier_uniform_(theirs.weight)
        torch.nn.init.zeros_(theirs.bias)
    bound = fan_in**-0.5 if name == "pytorch" else (6 / (fan_in + fan_out)) ** 0.5
    for ours, other in ((params["kernel"], theirs.weight), (params["bias"], theirs.bias)):
        other = other.detach().numpy()
        assert (
            abs(ours.std() - other.std()) <= 0.1 * other.std() and abs(np.abs(ours).max() - np.abs(other).max()) < 1e-3
        )
    assert 0.99 * bound < jnp.abs(params["kernel"]).max() <= bound


def _discriminator_in_torch(flat, x, statistics):
    """Returns the logits of the discriminator below in training mode; `statistics` gets the moved running ones."""
    x = (2 * x - 1).permute(0, 3, 1, 2)
    for index in range(1, 9):
        x = F.conv2d(
            x, flat[f"conv_{index}/kernel"].permute(3, 2, 0, 1), flat.get(f"conv_{index}/bias"), index % 2 or 2, 1
        )
        if index > 1:
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
            for name, value in (("mean", mean), ("var", var)):
                key = f"norm_{index}/{name}"
                statistics[key] = 0.9 * statistics[key] + 0.1 * value.detach()
            x = (x - mean[:, None, None]) / torch.sqrt(var[:, None, None] + 1e-5)
            x = x * flat[f"norm_{index}/scale"][:, None, None] + flat[f"norm_{index}/bias"][:, None, None]
        x = F.leaky_relu(x, 0.2)
    return F.conv2d(x, flat["conv_9/kernel"].permute(3, 2, 0, 1), flat["conv_9/bias"], padding=1)


def _flat(tree):
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"/".join(key.key for key in path): torch.tensor(np.asarray(leaf)) for path, leaf in paths}


def test_the_keras_step_equals_a_torch_twin():
    """D: Adam on real images, then on predicted ones, each a batch of its own for BN. G: on another batch, after D."""
    generator = models.build(models.GENERATORS, {"name": "srresnet", "blocks": 1, "width": 4, "scale": 2})
    discriminator = models.build(models.DISCRIMINATORS, {"name": "srgan", "width": 2, "head": "patch"})
    adam = optax.adam(1e-3, b1=0.5)
    losses = {"pixel": ("mse", 1.0), "adversarial": ("probability_lsgan", 0.1)}
    d_losses = {"d_loss": ("probability_lsgan", 1.0)}
    game = make_game(generator, discriminator, g_rate=adam, d_rate=adam, losses=losses, d_losses=d_losses)
    state = init_state(game, 32, 16)
    hr = jax.random.uniform(jax.random.key(3), (2, 2, 32, 32, 3))
    first, second = ({"hr": part, "lr": part[:, ::2, ::2]} for part in hr)
    updated, metrics = jax.jit(lambda state: gan_variants.keras_order(state, [first, second], game))(state)

    g = {"params": state.generator.params, "batch_stats": state.generator.batch_stats}
    predicted = np.asarray(generator.apply(g, first["lr"]))  # with running statistics
    assert np.abs(predicted - generator.apply(g, first["lr"], train=True, mutable=["batch_stats"])[0]).max() > 1e-2
    flat = {name: value.requires_grad_() for name, value in _flat(state.opponent.params).items()}
    statistics = _flat(state.opponent.batch_stats)
    twin = torch.optim.Adam(flat.values(), 1e-3, betas=(0.5, 0.999))
    for image, label in ((np.asarray(first["hr"]), 1.0), (predicted, 0.0)):
        twin.zero_grad()
        probability = torch.sigmoid(_discriminator_in_torch(flat, torch.tensor(image), statistics))
        ((probability - label) ** 2).mean().div(2).backward()
        twin.step()
    for name, value in _flat(updated.opponent.params).items():
        np.testing.assert_allclose(value, flat[name].detach(), atol=2e-4, err_msg=name)
    for name, value in _flat(updated.opponent.batch_stats).items():
        np.testing.assert_allclose(value, statistics[name], rtol=1e-3, atol=1e-4, err_msg=name)
    # The generator's loss is that of its own batch, and its running statistics come from there alone.
    sr, changed = generator.apply(g, second["lr"], train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(metrics["pixel"], 4 * jnp.square(sr - second["hr"]).mean(), rtol=1e-4)
    for ours, expected in zip(
        jax.tree.leaves(updated.generator.batch_stats), jax.tree.leaves(changed["batch_stats"]), strict=True
    ):
        np.testing.assert_allclose(ours, expected, atol=1e-5)
