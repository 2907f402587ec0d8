"""Generators made from generators: normalisation folded, blocks added, two blended."""

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax.models import GENERATORS, build
from srgan_jax.weights.safetensors_io import WeightsError
from srgan_jax.weights.weights import Weights, make_weights


def _epsilon_field(norm: str) -> str:
    return "bn_epsilon_upsampling" if norm.startswith("norm_up_") else "bn_epsilon"


def fold_norms(weights: Weights) -> Weights:
    """The same generator at inference without normalisation layers: each becomes part of the convolution before it.

    Args:
      weights: any generator; returned as it is where there is nothing to fold, or where norms follow activations.
    """
    if weights.architecture.get("norm") != "batch" or weights.architecture["block_order"] != "norm_activation":
        return weights
    params = {name: dict(layer) for name, layer in weights.variables["params"].items()}
    for name in [name for name in params if "norm" in name]:
        norm, conv = params.pop(name), params[name.replace("norm", "conv")]
        statistics = weights.variables["batch_stats"][name]
        std = np.sqrt(np.asarray(statistics["var"], np.float64) + weights.architecture[_epsilon_field(name)])
        slope = np.asarray(norm["scale"], np.float64) / std
        shift = np.asarray(conv.get("bias", 0.0), np.float64) - np.asarray(statistics["mean"], np.float64)
        conv["kernel"] = jnp.asarray(conv["kernel"] * slope, jnp.float32)
        conv["bias"] = jnp.asarray(shift * slope + np.asarray(norm["bias"], np.float64), jnp.float32)
    return make_weights({"params": params}, dict(weights.architecture) | {"norm": "none"})


def deepen(weights: Weights, blocks: int) -> Weights:
    """The same generator with more residual blocks to train: they follow its own, and change no picture yet.

    The last layer of each new branch is zeros (as Net2DeeperNet's layers begin as identities: Chen et al.,
    arXiv 1511.05641); what lies before it is drawn as for a new generator.

    Args:
      weights: a generator whose blocks are `x + branch(x)`, each branch with layers of its own.
      blocks: how many it shall have in all.

    Raises:
      WeightsError: it has more already, or its blocks are others: dense, or one for all.
    """
    existing = weights.architecture["blocks"]
    if blocks < existing:
        raise WeightsError(f"expected {existing} blocks or more, got {blocks}")
    architecture = dict(weights.architecture) | {"blocks": blocks}
    module = build(GENERATORS, architecture)
    fresh = jax.device_get(module.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32)))
    variables = {kind: dict(layers) for kind, layers in fresh.items()}
    for index in range(existing, blocks):
        layers = variables["params"]
        last = next((n for n in (f"block_{index:02d}_norm_2", f"block_{index:02d}_conv_2") if n in layers), None)
        if last is None:
            raise WeightsError(f"blocks can't be added to this {architecture['name']}: theirs are no plain residuals")
        layers[last] = jax.tree.map(np.zeros_like, layers[last])
    for kind, layers in weights.variables.items():
        variables[kind] |= layers
    return make_weights(jax.tree.map(jnp.asarray, variables), architecture)


def blend(first: Weights, second: Weights, share: float) -> Weights:
    """A generator between two: their convolutions interpolated (Wang et al., ESRGAN, arXiv 1809.00219, section 3.4).

    Sound where one was trained on from the other, SRGAN from SRResNet say. Batch normalisation is folded first: the
    running variances of two networks can't be interpolated apart from their kernels.

    Args:
      first: the result at a share of 0.
      second: the result at a share of 1; the same architecture.
      share: between 0 and 1.

    Raises:
      WeightsError: the architectures differ, or the share lies outside.
    """
    if not 0.0 <= share <= 1.0:
        raise WeightsError(f"expected a share between 0 and 1, got {share}")
    first, second = (fold_norms(end if isinstance(end, Weights) else make_weights(end)) for end in (first, second))
    if "batch_stats" in first.variables:
        raise WeightsError("its batch normalisation can't be folded; blend its pictures instead of its weights")
    if first.architecture != second.architecture:
        ours, theirs = dict(first.architecture), dict(second.architecture)
        differing = [
            f"{k}: {ours.get(k)} and {theirs.get(k)}" for k in sorted(ours | theirs) if ours.get(k) != theirs.get(k)
        ]
        raise WeightsError(f"only generators of one architecture can be blended; {', '.join(differing)}")
    return jax.tree.map(lambda a, b: (1.0 - share) * a + share * b, first, second)
