"""Published architectures against their published outputs, and against PyTorch modules with random weights."""

import helpers
import jax
import numpy as np
import pytest

from srgan_jax import defaults, models
from srgan_jax.config.resolve import resolve
from srgan_jax.training import setup
from srgan_jax.weights import Weights, fold_norms, importers
from srgan_jax.weights.layouts import LAYOUTS

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid")  # spandrel's use of PyTorch
torch = pytest.importorskip("torch", reason="PyTorch is not installed (scripts/test.sh --torch)")


def _import(name, tensors, **options) -> Weights:
    """Returns the generator of a state dict; its layout must be detected as `name`."""
    arrays = {key: np.asarray(value.detach().float()) for key, value in tensors.items()}
    assert next(layout for layout, entry in LAYOUTS.items() if entry.detect(arrays)) == name
    return importers._import_tensors(arrays, name, options)


def _apply(params: Weights, lr: np.ndarray) -> np.ndarray:
    with jax.default_matmul_precision("highest"):
        return np.asarray(jax.jit(params.module().apply)(params.variables, lr[None])[0])


def _golden(folder, file, name):
    """Returns a community model, the input, and the output that was computed elsewhere."""
    tensors = torch.load(folder / "community" / f"{file}.pth", weights_only=True)["params"]
    lr = np.load(folder / "community" / "lr48.npy").astype(np.float32) / 255
    return _import(name, tensors), lr, np.load(folder / "community" / f"{file}_golden.npy")


def test_span_equals_the_published_output(shared_data):
    params, lr, golden = _golden(shared_data, "span_x4_ch48", "span")
    for weights in (params, fold_norms(params)):
        np.testing.assert_allclose(_apply(weights, lr), golden, atol=1e-5)
    assert fold_norms(params).architecture["fused"] and not params.architecture["fused"]


def _equals_spandrel(module, name, lr_size, atol, *, spread=0.0, names=None, **options):
    """Checks a PyTorch module's output for a random image; `spread` is added to all parameters as noise."""
    generator = torch.Generator().manual_seed(0)
    for key, value in [*module.named_parameters(), *module.named_buffers()]:
        if spread and value.is_floating_point() and not key.endswith(NOT_RANDOM):
            noise = torch.randn(value.shape, generator=generator) * spread
            value.data += noise.abs() if key.endswith("running_var") else noise
    lr = np.random.default_rng(1).random((*lr_size, 3), np.float32)
    with torch.no_grad():
        theirs = module.eval()(torch.from_numpy(lr.transpose(2, 0, 1).copy())[None])[0].numpy().transpose(1, 2, 0)
    params = _import(name, {(names or {}).get(k, k): value for k, value in module.state_dict().items()}, **options)
    ours = _apply(params, lr)
    np.testing.assert_allclose(ours, theirs, atol=atol * max(1.0, np.abs(theirs).max()))
    return params


NOT_RANDOM = ("no_norm", "init_pos", "rpe_biases", "relative_position_index", "mask", "mask_0", "mask_1")


@pytest.mark.parametrize(
    "fields", [{}, {"norm": False, "upscale": 2}, {"img_range": 1.0, "rgb_mean": (0.1, 0.2, 0.3)}], ids=str
)
def test_span_equals_spandrel(fields):
    kind = helpers.import_spandrel("architectures.SPAN").SPAN
    module = kind(num_in_ch=3, num_out_ch=3, feature_channels=12, **fields)
    options = {"mean": fields["rgb_mean"], "img_range": fields["img_range"]} if "img_range" in fields else {}
    params = _equals_spandrel(module, "span", (11, 9), 1e-5, spread=0.05, **options)
    assert params.scale == fields.get("upscale", 4) and params.architecture["blocks"] == 6


def test_span_parameter_counts():
    # A branched layer from i to o channels: 1x1 to 2i, 3x3 to 2o, 1x1 to o, and 1x1 from i to o, all with bias.
    def branched(i, o):
        return (i + 1) * 2 * i + (9 * 2 * i + 1) * 2 * o + (2 * o + 1) * o + (i + 1) * o

    outer = (4 * 48 + 1) * 48 + (9 * 48 + 1) * 48  # the 1x1 convolution of four maps; the last one to 3 * 16 channels
    assert _count(name="span") == branched(3, 48) + 19 * branched(48, 48) + outer
    # Fused: 3x3 convolutions. 426,288 is the paper's 426 K of SPAN-S at scale 4.
    assert _count(name="span", fused=True) == (9 * 3 + 1) * 48 + 19 * (9 * 48 + 1) * 48 + outer == 426_288


def _count(**fields) -> int:
    module = models.build(models.GENERATORS, fields)
    shapes = jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes["params"]))


PLKSR = [
    {},
    {"dysample": True},
    {"dysample": True, "upscaling_factor": 3, "layer_norm": True},
    {"dysample": True, "upscaling_factor": 1},
    {"upscaling_factor": 2, "use_ea": False, "kernel_size": 13, "split_ratio": 0.5},
]


@pytest.mark.parametrize("fields", PLKSR, ids=str)
def test_realplksr_equals_spandrel(fields):
    kind = helpers.import_spandrel("architectures.PLKSR").RealPLKSR
    module = kind(**{"dim": 16, "n_blocks": 2, "norm_groups": 2, **fields})
    params = _equals_spandrel(module, "realplksr", (11, 9), 1e-5, spread=0.1, groups=2)
    assert params.scale == fields.get("upscaling_factor", 4)


def test_realplksr_parameter_counts():
    # A block: 3x3 from 64 to 128 and back, 17x17 of 16 channels, 3x3 and 1x1 of 64 channels; 64 scales and shifts.
    block = (9 * 64 + 1) * 128 + (9 * 128 + 1) * 64 + (289 * 16 + 1) * 16 + (9 * 64 + 1) * 64 + 65 * 64 + 2 * 64
    outer = (9 * 3 + 1) * 64 + (9 * 64 + 1) * 48
    assert _count(name="realplksr") == 28 * block + outer == 7_389_680
    # DySample: 1x1 from 48 channels to 2 coordinates * 4 groups * 16 sub-pixels, with and without bias, and to RGB.
    assert _count(name="realplksr", dysample=True) == 7_389_680 + 49 * 128 + 48 * 128 + 49 * 3


@pytest.mark.slow
def test_dat_light_equals_the_published_output(shared_data):
    params, lr, golden = _golden(shared_data, "dat_light_x4", "dat")
    folded = fold_norms(params)  # as `load` does; the tests against spandrel are without
    np.testing.assert_allclose(_apply(folded, lr), golden, atol=1e-4)
    assert params.architecture["norm"] == "batch" and folded.architecture["norm"] == "none"


DATS = [
    {},
    {"depth": [5, 1], "num_heads": [2, 4], "resi_connection": "3conv", "qkv_bias": False, "upscale": 3},
    {"depth": [1], "num_heads": [4], "split_size": [4, 4], "upsampler": "pixelshuffledirect", "img_size": 8},
]


@pytest.mark.parametrize(("fields", "size"), [(DATS[0], (8, 16)), *((f, (19, 9)) for f in DATS)], ids=str)
def test_dat_equals_spandrel(fields, size):
    kind = helpers.import_spandrel("architectures.DAT").DAT
    small = {"img_size": 16, "embed_dim": 32, "split_size": [2, 8], "depth": [4], "num_heads": [2], "upscale": 4}
    module = kind(**small | fields | {"expansion_factor": 2.0})
    params = _equals_spandrel(module, "dat", size, 1e-4, spread=0.1)
    assert params.scale == fields.get("upscale", 4)


def _dat_parameters(width, hidden, heads, depths, end, tail):
    """Returns the number of parameters; `end` is that of the convolution after each group, `tail` of the upsampling."""
    c, s, p = width // 8, width // 16, width // 2 // 4 // 4
    position = 3 * p + 2 * (2 * p + (p + 1) * p) + 2 * p + (p + 1) * heads // 2
    common = 4 * width + (width + 1) * 4 * width + 10 * width + 2 * width  # norms, qkv, projection; depthwise and norm
    common += (width + 1) * c + 2 * c + (c + 1) * width + (width + 1) * s + 2 * s + s + 1  # channel and pixel maps
    common += (width + 1) * hidden + (2 + 10) * hidden // 2 + (hidden // 2 + 1) * width  # feed-forward network
    blocks = sum(depths)
    of_blocks = blocks * common + (blocks + 1) // 2 * 2 * position + blocks // 2 * heads
    return 28 * width + 4 * width + of_blocks + (len(depths) + 1) * end + tail


def test_dat_parameter_counts():
    # DAT at scale 4: 180 channels, 720 inside; 3x3 convolutions after groups; 64 channels, twice four times 64, RGB.
    tail = (9 * 180 + 1) * 64 + 2 * (9 * 64 + 1) * 256 + (9 * 64 + 1) * 3
    expected = _dat_parameters(180, 720, 6, (6,) * 6, (9 * 180 + 1) * 180, tail)
    assert _count(name="dat") == expected and round(expected / 1e6, 2) == 14.80  # as in the paper's table 2
    light = {"depths": (18,), "heads": (6,), "width": 60, "expansion": 2.0, "residual": "3conv", "upsampling": "direct"}
    end = (9 * 60 + 1) * 15 + 16 * 15 + (9 * 15 + 1) * 60
    expected = _dat_parameters(60, 120, 6, (18,), end, (9 * 60 + 1) * 48)
    assert _count(name="dat", **light) == expected and round(expected / 1e3) == 573  # the authors' number


SWINS = [
    {"upsampler": "pixelshuffle", "upscale": 2},
    {"upsampler": "pixelshuffledirect", "upscale": 3, "num_heads": [2, 4], "depths": [3, 1]},
    {
        "upsampler": "nearest+conv",
        "upscale": 4,
        "resi_connection": "3conv",
        "mlp_ratio": 4.0,
        "embed_dim": 16,
        "num_heads": [4],
    },
    {"upsampler": "nearest+conv", "upscale": 8, "qkv_bias": False},
    {"upsampler": "", "window_size": 7, "img_range": 255.0, "img_size": 14},
    {"upsampler": "nearest+conv", "upscale": 4, "start_unshuffle": 2, "resi_connection": "3conv"},
]


@pytest.mark.parametrize("size", [(19, 9), (8, 16)], ids=str)
@pytest.mark.parametrize("fields", SWINS, ids=str)
def test_swinir_equals_spandrel(fields, size):
    kind = helpers.import_spandrel("architectures.SwinIR").SwinIR
    small = {"img_size": 8, "embed_dim": 12, "depths": [2], "num_heads": [3], "window_size": 4, "mlp_ratio": 2.0}
    module = kind(**small | fields)
    unshuffle = fields.get("start_unshuffle", 1)
    size = tuple(-(-side // (4 * unshuffle)) * 4 * unshuffle for side in size) if unshuffle > 1 else size
    names = {f"conv_first.{kind}": f"conv_first.1.{kind}" for kind in ("weight", "bias")} if unshuffle > 1 else {}
    params = _equals_spandrel(module, "swinir", size, 1e-4, spread=0.1, names=names)
    assert params.scale == fields.get("upscale", 1) // unshuffle


def test_swinir_parameter_counts():
    def block(w, heads, hidden, window=8):  # two norms; qkv and projection; biases of positions; two dense layers
        attention = (w + 1) * 3 * w + (w + 1) * w + (2 * window - 1) ** 2 * heads
        return 4 * w + attention + (w + 1) * hidden + (hidden + 1) * w

    # Classical, scale 4: after groups and blocks 3x3 convolutions; 64 channels, twice four times 64, RGB.
    tail = (9 * 180 + 1) * 64 + 2 * (9 * 64 + 1) * 256 + (9 * 64 + 1) * 3
    expected = 28 * 180 + 4 * 180 + 36 * block(180, 6, 360) + 7 * (9 * 180 + 1) * 180 + tail
    assert _count(name="swinir") == expected and round(expected / 1e6, 1) == 11.9  # 11.8 M for scale 2 in table 2
    light = {"depths": (6,) * 4, "heads": (6,) * 4, "width": 60, "upsampling": "direct"}
    expected = 28 * 60 + 4 * 60 + 24 * block(60, 6, 120) + 5 * (9 * 60 + 1) * 60 + (9 * 60 + 1) * 48
    assert _count(name="swinir", **light) == expected
    assert round((expected - 24 * 15**2 * 6) / 1e3) == 897  # table 3 leaves out the biases of positions


def _edsr(width, blocks, factors):
    """Returns the layers of EDSR as PyTorch modules, by our names."""
    sizes = {"conv_in": (3, width), "conv_trunk": (width, width), "conv_out": (width, 3)}
    sizes |= {f"block_{index:02d}_conv_{at}": (width, width) for index in range(blocks) for at in (1, 2)}
    sizes |= {f"conv_up_{index}": (width, factor**2 * width) for index, factor in enumerate(factors)}
    return {name: torch.nn.Conv2d(*size, 3, padding=1) for name, size in sizes.items()}


@pytest.mark.parametrize("spelling", ["edsr", "edsr-authors"])
@pytest.mark.parametrize(("blocks", "factors"), [(3, (2, 2)), (2, (3,)), (33, (2,))], ids=str)
def test_edsr_equals_its_formula_in_pytorch(spelling, blocks, factors):
    torch.manual_seed(0)
    convs, scale = _edsr(8, blocks, factors), np.prod(factors)
    branch_scale = 0.1 if blocks == 33 else 1.0
    lr = np.random.default_rng(1).random((9, 7, 3), np.float32)
    mean = torch.tensor([0.4488, 0.4371, 0.4040])[:, None, None]
    with torch.no_grad():
        x = first = convs["conv_in"]((torch.from_numpy(lr.transpose(2, 0, 1).copy())[None] - mean) * 255)
        for index in range(blocks):
            branch = convs[f"block_{index:02d}_conv_2"](torch.relu(convs[f"block_{index:02d}_conv_1"](x)))
            x = x + branch_scale * branch
        x = convs["conv_trunk"](x) + first
        for index, factor in enumerate(factors):
            x = torch.pixel_shuffle(convs[f"conv_up_{index}"](x), factor)
        expected = (convs["conv_out"](x) / 255 + mean)[0].numpy().transpose(1, 2, 0)
    names = {"conv_in": "conv_first", "conv_trunk": "conv_after_body", "conv_out": "conv_last"}
    block, up = "body.{}.conv{}", "upsample.{}"
    if spelling == "edsr-authors":
        names = {"conv_in": "head.0", "conv_trunk": f"body.{blocks}", "conv_out": "tail.1"}
        block, up = "body.{}.body.{}", "tail.0.{}"
    for index in range(blocks):
        for at, theirs in zip((1, 2), (0, 2) if spelling == "edsr-authors" else (1, 2), strict=True):
            names[f"block_{index:02d}_conv_{at}"] = block.format(index, theirs)
    names |= {f"conv_up_{index}": up.format(2 * index) for index in range(len(factors))}
    state = {
        f"{names[ours]}.{key}": value for ours, layer in convs.items() for key, value in layer.state_dict().items()
    }
    if spelling == "edsr-authors":
        state |= {f"{side}_mean.weight": torch.eye(3).reshape(3, 3, 1, 1) for side in ("sub", "add")}
    params = _import(spelling, state)
    assert params.scale == scale and params.architecture["residual_scale"] == branch_scale
    np.testing.assert_allclose(_apply(params, lr), expected, atol=1e-5)


def test_edsr_parameter_counts():
    # Baseline at scale 4: 3x3 convolutions with bias. EDSR-M has 1.518 M, EDSR-L 43.09 M (the authors' page).
    def expected(width, blocks):
        inner = (2 * blocks + 1) * (9 * width + 1) * width + 2 * (9 * width + 1) * 4 * width
        return (9 * 3 + 1) * width + inner + (9 * width + 1) * 3

    assert _count(name="edsr") == expected(64, 16) == 1_517_571
    assert _count(name="edsr", blocks=32, width=256) == expected(256, 32) == 43_089_923


SMALL = {
    "span": {"blocks": 1, "width": 8},
    "realplksr": {"blocks": 1, "width": 8, "dysample": True},
    "dat": {"depths": (2,), "heads": (2,), "width": 16, "split": (4, 8)},
    "swinir": {"depths": (2,), "heads": (2,), "width": 8},
    "edsr": {"blocks": 1, "width": 8},
}


@pytest.mark.parametrize("name", SMALL)
def test_every_stage_of_training_takes_the_generator(name):
    """Both stages are traced by shape, with what training, validation and tiling use."""
    config = defaults.get_config()
    config.stages.gan.losses.pixel.weight, config.stages.gan.losses.perceptual.weight = 1.0, 0.0
    with config.unlocked():
        config.generator.update(SMALL[name] | {"name": name})
    config.data.folder = "photos"
    stages = setup.build(resolve(config))
    assert [type(stage.generator) for stage in stages] == 2 * [models.GENERATORS[name]]
