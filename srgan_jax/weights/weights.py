"""`Weights`, a pytree of a generator's variables and architecture, and `make_weights`, which creates it."""

import dataclasses
import functools
import json
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import export

from srgan_jax.models import GENERATORS, Network, architecture_of, build
from srgan_jax.runtime.disk_cache import cached_on_disk
from srgan_jax.runtime.errors import UserError
from srgan_jax.runtime.trees import FrozenMapping, flatten
from srgan_jax.weights.safetensors_io import WeightsError

SHOWN = 5  # tensors in a message
NOT_SRRESNET = (
    "these variables are not an SRResNet's; pass architecture={'name': ..., 'blocks': ..., ...}, the name and the "
    f"fields of their generator ({', '.join(sorted(GENERATORS))})"
)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["variables"], meta_fields=["architecture"])
@dataclasses.dataclass(frozen=True, repr=False)
class Weights:
    """The variables of a generator and its architecture.

    A pytree: the arrays are its leaves, the architecture is static. `Weights` can be passed to functions under `jit`,
    `vmap` and `grad`, and weights of one architecture share a compilation.

    Attributes:
      variables: the Flax variables `{"params": ..., "batch_stats": ...}`, float32.
      architecture: "name" (in `models.GENERATORS`) and every field of that module.
    """

    variables: Mapping[str, Any]
    architecture: Mapping[str, Any]

    def module(self, **runtime: Any) -> Network:
        """Returns the Flax module; `runtime` may set its `dtype`."""
        return build(GENERATORS, self.architecture, **runtime)

    def replace(self, **fields: Any) -> "Weights":
        """Returns a copy with other values of `fields`."""
        return dataclasses.replace(self, **fields)

    @property
    def scale(self) -> int:
        """SR pixels per LR pixel, along each axis."""
        return self.architecture["scale"]

    def parameter_count(self) -> int:
        """Returns the number of parameters; running statistics are not counted."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.variables["params"]))

    def __repr__(self) -> str:
        """Returns the architecture and the total size of the arrays."""
        fields = ", ".join(f"{key}={value}" for key, value in self.architecture.items() if key != "name")
        count = sum(getattr(leaf, "size", 1) for leaf in jax.tree.leaves(self.variables))
        return f"Weights({self.architecture.get('name')}: {fields}; {count:,} numbers)"


def _serialize_architecture(static: tuple[Mapping[str, Any], ...]) -> bytes:
    return json.dumps([dict(architecture) for architecture in static]).encode()


def _deserialize_architecture(data: bytes | bytearray) -> tuple[Mapping[str, Any], ...]:
    return tuple(_frozen(architecture) for architecture in json.loads(bytes(data)))


export.register_pytree_node_serialization(  # so that jax.export can serialise functions of Weights
    Weights,
    serialized_name="srgan_jax.Weights",
    serialize_auxdata=_serialize_architecture,
    deserialize_auxdata=_deserialize_architecture,
)


def make_weights(variables: Mapping[str, Any], architecture: Mapping[str, Any] | None = None) -> Weights:
    """Returns `Weights` from a Flax variables dict.

    Args:
      variables: `{"params": ..., "batch_stats": ...}`, or only the params if the generator has no batch statistics.
      architecture: "name" and fields. None infers an SRResNet: blocks, width, scale, activation and norm from the
        shapes, and the paper's choices for the rest (linear output in [-1, 1], no interpolated base).

    Raises:
      WeightsError: `variables` is not a dict, or a tensor is missing, surplus or of another shape.
    """
    if isinstance(variables, str | os.PathLike):
        raise WeightsError(f"expected weights, got {str(variables)!r}; srgan_jax.load(name) reads them")
    if not isinstance(variables, Mapping):
        raise WeightsError(f"expected weights, or a Flax variables dict, got {type(variables).__name__}")
    variables = dict(variables) if "params" in variables else {"params": variables}
    variables = {name: tree for name, tree in variables.items() if tree}
    described = dict(_infer_architecture(variables.get("params", {})) if architecture is None else architecture)

    def check() -> dict[str, Any]:
        module = build(GENERATORS, described)
        check_shapes(variables, module)
        return architecture_of(GENERATORS, module)

    shapes = {name: np.shape(leaf) for name, leaf in flatten(variables).items()}
    known = GENERATORS.is_of_package(described["name"])
    try:
        complete = cached_on_disk("complete", {"tensors": shapes, "fields": described}, known, check)
    except UserError as error:
        if architecture is not None:
            raise
        raise WeightsError(f"{NOT_SRRESNET}; {error}" if isinstance(error, WeightsError) else NOT_SRRESNET) from None
    return Weights(variables, _frozen(complete))


def _frozen(architecture: Mapping[str, Any]) -> FrozenMapping:
    """Returns an architecture as `Weights` has it, which can be the static part of a pytree."""
    return FrozenMapping(
        {key: tuple(value) if isinstance(value, list) else value for key, value in architecture.items()}
    )


def _infer_architecture(params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the architecture of an SRResNet from the shapes of its tensors."""
    try:
        ups = [params[name]["kernel"].shape for name in sorted(params) if name.startswith("conv_up_")]
        width = params["conv_in"]["kernel"].shape[-1]
        factors = [round((shape[-1] / shape[-2]) ** 0.5) for shape in ups]
        slope = params["act_in"]["slope"].shape if "act_in" in params else None
    except (KeyError, AttributeError, TypeError) as error:
        raise WeightsError(f"{NOT_SRRESNET}; no {error}") from None
    return {
        "name": "srresnet",
        "blocks": sum(name.startswith("block_") and name.endswith("_conv_1") for name in params),
        "width": width,
        "scale": int(np.prod(factors)),
        "activation": "relu" if slope is None else "prelu_shared" if slope == (1,) and width > 1 else "prelu",
        "norm": "batch" if "block_00_norm_1" in params else "none",
        "norm_upsampling": "norm_up_0" in params,
        "trunk": "activation" if "act_trunk" in params else "norm",
        "bias_before_norm": "block_00_norm_1" in params and "bias" in params["block_00_conv_1"],
    }


def check_shapes(variables: Mapping[str, Any], module: Any, side: int = 8) -> None:
    """Raises WeightsError if tensors are missing, surplus or of another shape than those of a Flax module.

    Args:
      variables: as of `module.init`.
      module: takes images `[1, side, side, C]`, C being its `channels` or 3; WeightsError too if it can't be built.
      side: in pixels.
    """
    image = jax.ShapeDtypeStruct((1, side, side, getattr(module, "channels", 3)), np.float32)
    try:
        expected = jax.eval_shape(module.init, jax.eval_shape(lambda: jax.random.key(0)), image)
    except UserError:
        raise
    except Exception as error:  # a network raises anything for fields that don't fit each other
        text = " ".join(str(error).split())[:200]
        raise WeightsError(f"the architecture can't be built: {type(error).__name__}: {text}") from error
    expected = {name: leaf.shape for name, leaf in flatten(expected).items()}
    found = {name: np.shape(leaf) for name, leaf in flatten(variables).items()}
    wrong = [f"missing {name} {expected[name]}" for name in expected.keys() - found.keys()]
    wrong += [f"surplus {name} {found[name]}" for name in found.keys() - expected.keys()]
    wrong += [
        f"{name}: expected {expected[name]}, found {found[name]}"
        for name in expected.keys() & found.keys()
        if expected[name] != found[name]
    ]
    if wrong:
        shown = "; ".join(sorted(wrong, key=lambda line: ("batch_stats/" in line, line))[:SHOWN])
        raise WeightsError(f"{len(wrong)} tensors don't fit the architecture: {shown}")
