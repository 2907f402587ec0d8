"""Published architectures against their published outputs, and against PyTorch modules with random weights."""

import helpers
import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from srgan_jax import models
from srgan_jax.weights import Weights, fold_norms, make_weights
from srgan_jax.weights.layouts.span import span

torch = pytest.importorskip("torch", reason="PyTorch is not installed (scripts/test.sh --torch)")


def _import(layout, tensors, **options) -> Weights:
    """Returns the generator of a state dict, by its layout."""
    arrays = {name: np.asarray(value.detach().float()) for name, value in tensors.items()}
    architecture, entries = layout(arrays, **options)
    flat = {
        tuple(ours.split("/")): source.convert(arrays[source.name])
        for ours, source in entries.items()
        if source.name in arrays
    }
    return make_weights(unflatten_dict(flat), architecture)


def _apply(params: Weights, lr: np.ndarray) -> np.ndarray:
    with jax.default_matmul_precision("highest"):
        return np.asarray(jax.jit(params.module().apply)(params.variables, lr[None])[0])


def _golden(folder, name, layout, **options):
    """Returns a community model, the input, and the output that was computed elsewhere."""
    tensors = torch.load(folder / "community" / f"{name}.pth", weights_only=True)["params"]
    lr = np.load(folder / "community" / "lr48.npy").astype(np.float32) / 255
    return _import(layout, tensors, **options), lr, np.load(folder / "community" / f"{name}_golden.npy")


def test_span_equals_the_published_output(shared_data):
    params, lr, golden = _golden(shared_data, "span_x4_ch48", span)
    for weights in (params, fold_norms(params)):
        np.testing.assert_allclose(_apply(weights, lr), golden, atol=1e-5)
    assert fold_norms(params).architecture["fused"] and not params.architecture["fused"]


def _equals_spandrel(module, layout, lr_size, atol, *, spread=0.0, **options):
    """Checks a PyTorch module's output for a random image; `spread` is added to all parameters as noise."""
    generator = torch.Generator().manual_seed(0)
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if spread and value.is_floating_point() and not name.endswith(NOT_RANDOM):
            noise = torch.randn(value.shape, generator=generator) * spread
            value.data += noise.abs() if name.endswith("running_var") else noise
    lr = np.random.default_rng(1).random((*lr_size, 3), np.float32)
    with torch.no_grad():
        theirs = module.eval()(torch.from_numpy(lr.transpose(2, 0, 1).copy())[None])[0].numpy().transpose(1, 2, 0)
    params = _import(layout, module.state_dict(), **options)
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
    params = _equals_spandrel(module, span, (11, 9), 1e-5, spread=0.05, **options)
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
