"""Transformations of generators: folding of batch normalisation, added blocks, interpolation of two."""

from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax.models import GENERATORS, build
from srgan_jax.runtime.disk_cache import cached_on_disk
from srgan_jax.runtime.types import PyTree
from srgan_jax.weights.safetensors_io import WeightsError
from srgan_jax.weights.weights import Weights, make_weights


def _epsilon_field(norm: str) -> str:
    return "bn_epsilon_upsampling" if norm.startswith("norm_up_") else "bn_epsilon"


def fold_norms(weights: Weights) -> Weights:
    """Returns the same generator for inference, each batch normalisation folded into the convolution before it.

    A generator may fold more, or other layers: its `fold(variables, architecture)` returns both as they are for
    inference, or None where there is nothing to fold.

    Args:
      weights: any generator; returned unchanged if it has no batch normalisation, or has it after activations.
    """
    name = weights.architecture["name"]
    own = cached_on_disk(
        "folds", {"name": name}, GENERATORS.is_of_package(name), lambda: hasattr(GENERATORS[name], "fold")
    )
    fold = cast("Any", GENERATORS[name]).fold if own else _fold_norms
    if folded := fold(weights.variables, weights.architecture):
        return make_weights(*folded)
    return weights


def _fold_norms(variables: PyTree, architecture: Mapping[str, Any]) -> tuple[PyTree, dict[str, Any]] | None:
    """Folds layers by name: ".._norm.." into "..._conv..."."""
    if architecture.get("norm") != "batch" or architecture.get("block_order", "norm_activation") != "norm_activation":
        return None
    params = dict(variables["params"])
    for name, statistics in variables["batch_stats"].items():
        norm, conv = params.pop(name), dict(params[name.replace("norm", "conv")])
        std = np.sqrt(np.asarray(statistics["var"], np.float64) + architecture[_epsilon_field(name)])
        slope = np.asarray(norm["scale"], np.float64) / std
        shift = np.asarray(conv.get("bias", 0.0), np.float64) - np.asarray(statistics["mean"], np.float64)
        conv["kernel"] = jnp.asarray(conv["kernel"] * slope, jnp.float32)
        conv["bias"] = jnp.asarray(shift * slope + np.asarray(norm["bias"], np.float64), jnp.float32)
        params[name.replace("norm", "conv")] = conv
    return {"params": params}, dict(architecture) | {"norm": "none"}


def deepen(weights: Weights, blocks: int) -> Weights:
    """Returns the generator with more residual blocks, appended to its own; its output doesn't change.

    The last layer of each new branch is zero-initialised, so that the block is the identity (as in Net2DeeperNet, Chen
    et al., arXiv 1511.05641). Its other layers are initialised as in a new generator.

    Args:
      weights: a generator whose blocks are `x + branch(x)`, each branch with layers of its own.
      blocks: the new number of blocks.

    Raises:
      WeightsError: `weights` has more blocks than that, or its blocks are dense or share their layers.
    """
    existing = weights.architecture.get("blocks")
    if existing is None:
        raise WeightsError(f"blocks can't be added to a {weights.architecture['name']}")
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
            raise WeightsError(
                f"blocks can't be added to this {architecture['name']}: its blocks are not residual blocks, each with "
                "layers of its own"
            )
        layers[last] = jax.tree.map(np.zeros_like, layers[last])
    for kind, layers in weights.variables.items():
        variables[kind] |= layers
    return make_weights(jax.tree.map(jnp.asarray, variables), architecture)


def blend(first: Weights, second: Weights, share: float) -> Weights:
    """Returns the linear interpolation of two generators' weights (Wang et al., ESRGAN, arXiv 1809.00219, section 3.4).

    The result is useful if one generator was trained from the other, such as SRGAN from SRResNet. Batch normalisation
    is folded first, because running variances can't be interpolated separately from the kernels.

    Args:
      first: the result for `share` 0.
      second: the result for `share` 1; the same architecture.
      share: weight of `second`, in [0, 1].

    Raises:
      WeightsError: the architectures differ, or `share` is outside [0, 1].
    """
    if not 0.0 <= share <= 1.0:
        raise WeightsError(f"share={share}: expected a number between 0 (the first generator) and 1 (the second)")
    first, second = (fold_norms(end if isinstance(end, Weights) else make_weights(end)) for end in (first, second))
    if "batch_stats" in first.variables:
        raise WeightsError(
            "batch normalisation after an activation can't be folded; blend the images instead of the weights"
        )
    if first.architecture != second.architecture:
        ours, theirs = dict(first.architecture), dict(second.architecture)
        differing = [
            f"{k}: {ours.get(k)} and {theirs.get(k)}" for k in sorted(ours | theirs) if ours.get(k) != theirs.get(k)
        ]
        raise WeightsError(
            f"only generators of one architecture can be blended; these differ in {', '.join(differing)}"
        )
    return jax.tree.map(lambda a, b: (1.0 - share) * a + share * b, first, second)
