import functools

import flax.linen as nn
import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from srgan_jax import models
from srgan_jax.models import layers
from srgan_jax.models.extractors.vgg19 import TAPS
from srgan_jax.ops import resize
from srgan_jax.training import state

LR = jnp.zeros((1, 8, 8, 3))


def _parameters(**fields):
    module = models.build(models.GENERATORS, {"name": "srresnet", **fields})
    return state.count_parameters(jax.eval_shape(module.init, jax.random.key(0), LR)["params"])


def test_parameter_count_equals_the_papers():
    # conv 9x9 3 -> 64 with bias                          9*9*3*64 + 64          =    15,616
    # 33 convolutions 3x3 64 -> 64 in front of a norm     33 * 3*3*64*64         = 1,216,512
    # 33 norms, scale and shift                           33 * 2 * 64            =     4,224
    # 2 convolutions 3x3 64 -> 256 with bias              2 * (3*3*64*256 + 256) =   295,424
    # conv 9x9 64 -> 3 with bias                          9*9*64*3 + 3           =    15,555
    # slopes: after the first convolution, in 16 blocks, after 2 upsamplings     =        19
    assert 15_616 + 1_216_512 + 4_224 + 295_424 + 15_555 + 19 == 1_547_350
    assert _parameters(activation="prelu_shared") == 1_547_350
    # With biases before norms, which have no effect: 33 * 64 = 2,112 more.
    assert _parameters(activation="prelu_shared", bias_before_norm=True) == 1_547_350 + 2_112 == 1_549_462
    # With a slope per channel: 19 * 63 = 1,197 more.
    assert _parameters(bias_before_norm=True) == 1_549_462 + 1_197 == 1_550_659


def test_discriminator_parameter_count():
    # 8 convolutions 3x3, the first with bias:  9 * (3*64 + 64*64 + 64*128 + 128*128 + 128*256 + 256*256 + 256*512
    #                                           + 512*512) + 64 = 4,686,016 - a norm after the last seven:
    #                                           2 * (64 + 2*128 + 2*256 + 2*512) = 3,712
    # dense 6*6*512 -> 1024 and 1024 -> 1:      18,432*1024 + 1024 + 1025 = 18,876,417
    pairs = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
    expected = 9 * sum(a * b for a, b in pairs) + 64 + 2 * (64 + 256 + 512 + 1024) + 18_432 * 1024 + 1024 + 1025
    module = models.build(models.DISCRIMINATORS, {"name": "srgan"})
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 96, 96, 3)))
    assert state.count_parameters(shapes["params"]) == expected


def test_pixel_shuffle_by_hand():
    # One pixel, two channels: PyTorch reads channel c * 4 + i * 2 + j as channel c at row i, column j.
    x = jnp.arange(8.0).reshape(1, 1, 1, 8)
    assert layers.pixel_shuffle(x, 2)[0, :, :, 0].tolist() == [[0, 1], [2, 3]]
    assert layers.pixel_shuffle(x, 2)[0, :, :, 1].tolist() == [[4, 5], [6, 7]]
    with pytest.raises(ValueError, match="divisible by 9, got 8"):
        layers.pixel_shuffle(x, 3)


@pytest.mark.parametrize("factor", [2, 3])
def test_pixel_shuffle_equals_pytorch(factor):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (scripts/test.sh --torch)")
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3 * factor**2)).astype(np.float32)
    theirs = torch.nn.PixelShuffle(factor)(torch.from_numpy(x.transpose(0, 3, 1, 2))).numpy().transpose(0, 2, 3, 1)
    assert (np.asarray(layers.pixel_shuffle(jnp.asarray(x), factor)) == theirs).all()


@pytest.mark.parametrize("kernel", resize.KERNELS)
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_interpolate_equals_resizing_by_matrices(scale, kernel):
    x = jax.random.uniform(jax.random.key(0), (2, 9, 7, 3))
    rows, columns = (resize.weight_matrix(size, size * scale, kernel, "clamp") for size in (9, 7))
    expected = np.einsum("oh,nhwc,pw->nopc", rows, np.asarray(x, np.float64), columns)
    np.testing.assert_allclose(layers.interpolate(x, scale, kernel), expected, atol=1e-6)


TRANSFORMER = {"depths": (2,), "heads": (2,), "width": 16, "head_width": 8}
VARIATIONS = [
    {"scale": 2},
    {"scale": 3, "base": "bicubic"},
    {"scale": 4, "activation": "relu", "output": "tanh"},
    {"scale": 8, "norm": "none", "base": "bilinear"},
    {"scale": 4, "activation": "prelu_shared", "bias_before_norm": True, "input_range": "signed"},
    {"scale": 4, "trunk": "activation", "norm_upsampling": True, "input_range": "imagenet", "output_range": "imagenet"},
    {"name": "msrresnet", "scale": 4},
    {"name": "msrresnet", "scale": 3},
    {"name": "compact", "scale": 4},
    {"name": "compact", "scale": 3},
    {"scale": 4, "upsampling": "nearest", "upsampling_width": 12, "block_order": "activation_norm"},
    {"scale": 2, "shared_blocks": True, "use_bias": False, "initialization": "pytorch", "blocks": 2},
    {"name": "rrdb", "scale": 4, "growth": 4},
    {"name": "restoration", "scale": 1, "upsampling_width": 8},
    {"name": "restoration", "scale": 1, "upsampling_width": 8, "padding": "keras", "initialization": "keras"},
    {"name": "span", "scale": 2},
    {"name": "span", "scale": 3, "fused": True},
    {"name": "realplksr", "scale": 2, "dysample": True},
    {"name": "realplksr", "scale": 3, "layer_norm": True},
    {"name": "edsr", "scale": 3},
    {"name": "dat", "scale": 2, **TRANSFORMER, "depths": (2, 1), "heads": (2, 2), "split": (2, 4)},
    {"name": "dat", "scale": 3, **TRANSFORMER, "norm": "none", "split": (4, 4), "residual": "3conv"},
    {"name": "swinir", "scale": 4, **TRANSFORMER, "depths": (2, 1), "heads": (2, 4), "window": 4},
    {"name": "swinir", "scale": 3, **TRANSFORMER, "window": 3, "upsampling": "direct"},
    {"name": "swinir", "scale": 2, **TRANSFORMER, "window": 2, "upsampling": "nearest", "unshuffle": 2},
    {"name": "swinir", "scale": 1, **TRANSFORMER, "window": 7, "upsampling": "none", "residual": "3conv"},
]


@pytest.mark.parametrize("fields", VARIATIONS, ids=str)
def test_generator_variations_have_the_expected_output_shape(fields):
    module = models.build(models.GENERATORS, helpers.small_fields(fields, blocks=1, width=8))
    lr = jax.random.uniform(jax.random.key(1), (2, 6, 5, 3))
    sr, _ = jax.eval_shape(module.init_with_output, jax.random.key(0), lr)
    assert sr.shape == (2, 6 * fields["scale"], 5 * fields["scale"], 3) and sr.dtype == jnp.float32
    described = models.architecture_of(models.GENERATORS, module)
    assert models.build(models.GENERATORS, described) == module


@pytest.mark.parametrize("base", ["bilinear", "bicubic"])
def test_generator_with_a_base_starts_near_it(base):
    module = models.build(
        models.GENERATORS, {"name": "srresnet", "blocks": 2, "width": 8, "norm": "none", "base": base}
    )
    lr = jax.random.uniform(jax.random.key(1), (1, 12, 12, 3))
    sr = module.apply(module.init(jax.random.key(0), lr), lr)
    assert jnp.abs(sr - layers.interpolate(lr, 4, base)).mean() < 0.02


FIRST = list({fields.get("name"): fields for fields in reversed(VARIATIONS)}.values())  # of each architecture


@pytest.mark.parametrize(
    "fields", [pytest.param(f, marks=[] if f in FIRST else pytest.mark.slow) for f in VARIATIONS], ids=str
)
def test_the_mask_hides_the_padding(fields):
    module = models.build(models.GENERATORS, helpers.small_fields(fields, blocks=1, width=8))
    lr = jax.random.uniform(jax.random.key(1), (1, 6, 5, 3))
    variables, apply = helpers.random_variables(module, lr), jax.jit(module.apply)
    alone = apply(variables, lr)
    canvas = jnp.pad(lr, ((0, 0), (0, 7), (0, 4), (0, 0)), mode="edge")
    mask = jnp.zeros((1, 13, 9, 1)).at[:, :6, :5].set(1.0)
    scale = fields["scale"]
    framed = apply(variables, canvas, mask=mask)[:, : 6 * scale, : 5 * scale]
    np.testing.assert_allclose(framed, alone, rtol=1e-5, atol=2e-5)
    unmasked = apply(variables, canvas)[:, : 6 * scale, : 5 * scale]
    assert jnp.abs(unmasked - alone).max() > 1e-3  # without the mask the padding has an effect


def test_nearest_upsampling_leaves_no_checkerboard():
    """Untrained, on a constant image: sub-pixel upsampling gives adjacent pixels different values, nearest doesn't."""
    differences = {}
    for upsampling in ("subpixel", "nearest"):
        fields = {"name": "srresnet", "blocks": 1, "width": 8, "scale": 2, "norm": "none", "upsampling": upsampling}
        module = models.build(models.GENERATORS, fields)
        gray = jnp.full((1, 24, 24, 3), 0.4)
        sr = module.apply(module.init(jax.random.key(0), gray), gray)[0, 20:-20, 20:-20]  # without the border
        differences[upsampling] = float(jnp.abs(sr[1:] - sr[:-1]).mean())
    assert differences["subpixel"] > 1e-2 and differences["nearest"] < 1e-5


def test_activations_differ_below_zero():
    x = jnp.array([[-2.0, 3.0]])

    class Alone(nn.Module):
        kind: str

        @nn.compact
        def __call__(self, x):
            return layers.activation(self.kind, "act")(x)

    below = {"relu": 0.0, "leaky_relu": -0.4, "prelu": -0.5, "prelu_shared": -0.5}  # slopes 0.2, and initially 0.25
    slopes = {"relu": 0, "leaky_relu": 0, "prelu": 2, "prelu_shared": 1}  # number of learned slopes
    assert set(below) <= set(layers.ACTIVATIONS)
    for kind, value in below.items():
        variables = Alone(kind).init(jax.random.key(0), x)
        np.testing.assert_allclose(Alone(kind).apply(variables, x), [[value, 3.0]], rtol=1e-6)
        assert state.count_parameters(variables) == slopes[kind]


@pytest.mark.parametrize("order", layers.BLOCK_ORDERS)
def test_norms_after_a_relu_get_no_negative_values(order):
    """A training pass moves the running mean of a norm towards that of its input: after a ReLU it isn't negative."""
    fields = {"name": "srresnet", "blocks": 1, "width": 16, "scale": 2, "activation": "relu", "block_order": order}
    generator = models.build(models.GENERATORS, fields)
    fields = {"name": "srgan", "width": 8, "head": "patch", "negative_slope": 0.0, "block_order": order}
    discriminator = models.build(models.DISCRIMINATORS, fields)
    image = jax.random.uniform(jax.random.key(1), (2, 16, 16, 3))
    for module, norm in ((generator, "block_00_norm_1"), (discriminator, "norm_2")):
        variables = jax.jit(module.init)(jax.random.key(0), image)
        run = functools.partial(module.apply, train=True, mutable=["batch_stats"])
        changed = jax.jit(run)(variables, image)[1]
        assert (changed["batch_stats"][norm]["mean"] >= 0).all() == (order == "activation_norm")


def test_shared_blocks_have_one_set_of_parameters():
    # conv_in 9*9*3*8; one 3x3 conv and one norm: 9*64 + 16; up 9*8*32; out 9*9*8*3; one PReLU for all: 8; no bias
    fields = {"width": 8, "scale": 2, "shared_blocks": True, "use_bias": False}
    expected = 9 * 9 * 3 * 8 + 9 * 64 + 16 + 9 * 8 * 32 + 9 * 9 * 8 * 3 + 8
    assert _parameters(blocks=5, **fields) == _parameters(blocks=2, **fields) == expected


def test_rrdb_parameter_count_equals_the_papers():
    # ESRGAN's generator: 16,697,987 parameters (the authors' RRDB_ESRGAN_x4.pth).
    module = models.build(models.GENERATORS, {"name": "rrdb"})
    shapes = jax.eval_shape(module.init, jax.random.key(0), LR)
    assert state.count_parameters(shapes["params"]) == 16_697_987


def test_batch_norm_uses_batch_statistics_only_in_training():
    module = models.build(models.GENERATORS, {"name": "srresnet", "blocks": 1, "width": 8})
    lr = jax.random.uniform(jax.random.key(1), (2, 6, 6, 3))
    variables, apply = jax.jit(module.init)(jax.random.key(0), lr), jax.jit(module.apply)
    one, two = apply(variables, lr[:1]), apply(variables, lr)[:1]
    np.testing.assert_allclose(one, two, atol=1e-6)
    trained, changed = module.apply(variables, lr, train=True, mutable=["batch_stats"])
    assert jnp.abs(trained[:1] - two).max() > 1e-3
    # Momentum 0.9: the running mean is nine tenths of the initial mean, 0, and a tenth of the batch's; the running
    # variance is nine tenths of the initial one, 1, and a tenth of the batch's (biased, as in Flax).
    kinds = ["intermediates", "batch_stats"]
    _, state = module.apply(variables, lr, train=True, capture_intermediates=True, mutable=kinds)
    before_norm = state["intermediates"]["block_00_conv_1"]["__call__"][0]
    found = changed["batch_stats"]["block_00_norm_1"]
    np.testing.assert_allclose(found["mean"], 0.1 * before_norm.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["var"], 0.9 + 0.1 * before_norm.var(axis=(0, 1, 2)), rtol=1e-4)


def test_bfloat16_compute_keeps_float32_parameters():
    module = models.build(models.GENERATORS, {"name": "srresnet", "blocks": 1, "width": 8}, dtype=jnp.bfloat16)
    sr, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), LR)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert sr.dtype == jnp.float32


UNKNOWN = (
    {"scale": 5}, {"activation": "gelu"}, {"norm": "layer"}, {"output": "sigmoid"}, {"base": "box"},
    {"upsampling": "bilinear"}, {"input_range": "byte"}, {"initialization": "x"}, {"block_order": "norm"},
)  # fmt: skip


def test_unknown_names_list_the_valid_ones():
    with pytest.raises(ValueError, match="unknown .*'srresnett'; valid: .*srresnet"):
        models.build(models.GENERATORS, {"name": "srresnett"})
    with pytest.raises(ValueError, match="unknown .*srresnet 'block'; valid: activation, base"):
        models.build(models.GENERATORS, {"name": "srresnet", "block": 3})
    for fields in UNKNOWN:
        with pytest.raises(ValueError, match="valid: "):
            jax.eval_shape(models.build(models.GENERATORS, {"name": "srresnet", **fields}).init, jax.random.key(0), LR)


def test_discriminator_refuses_other_crop_sizes():
    module = models.build(models.DISCRIMINATORS, {"name": "srgan", "width": 4, "dense": 8, "crop_px": 32})
    variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert jax.eval_shape(module.apply, variables, jnp.zeros((3, 32, 32, 3))).shape == (3, 1)
    with pytest.raises(ValueError, match="expected 32 x 32 crops, got \\(48, 48, 3\\)"):
        module.apply(variables, jnp.zeros((1, 48, 48, 3)))


def test_vgg19_returns_the_requested_feature_layers():
    assert len(TAPS) == 32
    module = models.build(models.EXTRACTORS, {"name": "vgg19", "taps": ("conv1_2", "relu1_2", "relu3_1")})
    image = jax.random.uniform(jax.random.key(0), (1, 32, 32, 3))
    variables = jax.jit(module.init)(jax.random.key(1), image)
    assert set(variables["params"]) == {  # no layer after the last tap
        "block1_conv1", "block1_conv2", "block2_conv1", "block2_conv2", "block3_conv1",
    }  # fmt: skip
    features = jax.jit(module.apply)(variables, image)
    assert features["relu3_1"].shape == (1, 8, 8, 256)
    np.testing.assert_array_equal(features["relu1_2"], jnp.maximum(features["conv1_2"], 0))
    with pytest.raises(ValueError, match="unknown VGG19 feature 'relu5_5'"):
        models.build(models.EXTRACTORS, {"name": "vgg19", "taps": ("relu5_5",)}).init(jax.random.key(1), image)


def test_vgg19_preprocessing_by_hand():
    image = jnp.ones((1, 4, 4, 3)) * jnp.array([0.2, 0.4, 0.6])
    from srgan_jax.models.extractors.vgg19 import PREPROCESSING

    caffe = PREPROCESSING["caffe"](image)[0, 0, 0]  # BGR
    np.testing.assert_allclose(caffe, [153 - 103.939, 102 - 116.779, 51 - 123.68], atol=1e-4)
    torchvision = PREPROCESSING["torchvision"](image)[0, 0, 0]
    np.testing.assert_allclose(torchvision, [-0.285 / 0.229, -0.056 / 0.224, 0.194 / 0.225], atol=1e-5)
