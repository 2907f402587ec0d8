"""Generators as files: `Weights`, a pytree that describes itself, and one `.safetensors` that holds it."""

import json
import os
from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict, freeze
from flax.traverse_util import flatten_dict, unflatten_dict

from srgan_jax import pretrained
from srgan_jax.errors import MissingFileError
from srgan_jax.models import GENERATORS, architecture_of, build
from srgan_jax.tensors import EXTRACTOR_FORMAT, FORMAT, PYTORCH, WeightsError, import_hint, read_tensors, write_tensors


@flax.struct.dataclass
class Weights:
    """A generator: its variables, and the architecture they belong to.

    A pytree whose leaves are the arrays; the architecture is its one static part, so that `Weights` passes through
    `jit`, `vmap` and `grad`, and two files of one architecture share a compilation.

    Attributes:
      variables: `{"params": ..., "batch_stats": ...}` as Flax has them, float32.
      architecture: "name" (in `models.GENERATORS`) and every field of that module.
    """

    variables: Mapping[str, Any]
    architecture: FrozenDict = flax.struct.field(pytree_node=False)

    def module(self, **runtime: Any):
        """The Flax module; `runtime` may set its `dtype`."""
        return build(GENERATORS, self.architecture, **runtime)

    @property
    def scale(self) -> int:
        """SR pixels per LR pixel, along each axis."""
        return self.architecture["scale"]


def make_weights(variables: Mapping[str, Any], architecture: Mapping[str, Any] | None = None) -> Weights:
    """`Weights` from a plain Flax variables dict.

    Args:
      variables: `{"params": ..., "batch_stats": ...}`, or the params alone where the generator has no statistics.
      architecture: "name" and fields. None reads sizes (blocks, width, scale, slopes, norm) from the shapes of an
        SRResNet and takes the paper's choices for all else: linear output in [-1, 1], no interpolated base.

    Raises:
      WeightsError: no dict, or a tensor is missing, surplus or of another shape.
    """
    if isinstance(variables, str | os.PathLike):
        raise WeightsError("expected weights, got a name; srgan_jax.load(name) reads them")
    if not isinstance(variables, Mapping):
        raise WeightsError(f"expected weights, or a Flax variables dict, got {type(variables).__name__}")
    variables = dict(variables) if "params" in variables else {"params": variables}
    variables = {name: tree for name, tree in variables.items() if tree}
    described = dict(_infer_architecture(variables.get("params", {})) if architecture is None else architecture)
    module = build(GENERATORS, described)
    complete = freeze(
        {k: tuple(v) if isinstance(v, list) else v for k, v in architecture_of(GENERATORS, module).items()}
    )
    _check_shapes(variables, module)
    return Weights(variables, complete)


def _infer_architecture(params: Mapping[str, Any]) -> dict[str, Any]:
    """An SRResNet's sizes from the shapes of its tensors."""
    try:
        ups = [params[name]["kernel"].shape for name in sorted(params) if name.startswith("conv_up_")]
        width = params["conv_in"]["kernel"].shape[-1]
        factors = [round((shape[-1] / shape[-2]) ** 0.5) for shape in ups]
        slope = params["act_in"]["slope"].shape if "act_in" in params else None
    except (KeyError, AttributeError, TypeError) as error:
        raise WeightsError(
            f"these variables are not an SRResNet's (no {error}); pass architecture={{'name': ..., ...}}"
        ) from None
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


def _check_shapes(variables: Mapping[str, Any], module: Any) -> None:
    lr = jax.ShapeDtypeStruct((1, 8, 8, 3), np.float32)
    expected = jax.eval_shape(module.init, jax.eval_shape(lambda: jax.random.key(0)), lr)
    expected = {"/".join(path): leaf.shape for path, leaf in flatten_dict(dict(expected)).items()}
    found = {"/".join(path): np.shape(leaf) for path, leaf in flatten_dict(dict(variables)).items()}
    wrong = [f"missing {name} {expected[name]}" for name in expected.keys() - found.keys()]
    wrong += [f"surplus {name} {found[name]}" for name in found.keys() - expected.keys()]
    wrong += [
        f"{name}: expected {expected[name]}, found {found[name]}"
        for name in expected.keys() & found.keys()
        if expected[name] != found[name]
    ]
    if wrong:
        shown = "\n  ".join(sorted(wrong, key=lambda line: ("batch_stats/" in line, line))[:10])
        raise WeightsError(f"{len(wrong)} tensors don't fit the architecture:\n  {shown}")


def save(
    path: str | os.PathLike, weights: Weights, provenance: Mapping[str, str] | None = None, *, dtype: Any = np.float32
) -> None:
    """Writes `weights` to one `.safetensors`, under a temporary name first.

    Args:
      path: the file.
      weights: what to write.
      provenance: strings for the header: data, steps, scores, licence.
      dtype: "float16" halves the file; `load` gives float32 again.

    Raises:
      WeightsError: a value is too large for the dtype.
    """
    tensors = {"/".join(path): np.asarray(leaf) for path, leaf in flatten_dict(dict(weights.variables)).items()}
    largest = np.finfo(dtype).max
    if large := [n for n, tensor in tensors.items() if (np.isfinite(tensor) & (np.abs(tensor) > largest)).any()]:
        raise WeightsError(f"values beyond {largest:g} don't fit {np.dtype(dtype).name}: {', '.join(large[:10])}")
    tensors = {name: tensor.astype(dtype) for name, tensor in tensors.items()}
    header = {"format": FORMAT, "architecture": json.dumps(dict(weights.architecture))}
    write_tensors(path, tensors, header | dict(provenance or {}))


def read_header(path: str | os.PathLike) -> dict[str, str]:
    """What the header of a weights file says: "format", "architecture" (JSON), and its provenance."""
    return read_tensors(_file_of(path), FORMAT)[1]


def read_provenance(path: str | os.PathLike) -> dict[str, str]:
    """What the header says besides the format and the architecture: data, steps, scores, licence."""
    return {key: value for key, value in read_header(path).items() if key not in ("format", "architecture")}


def _file_of(path: str | os.PathLike) -> str | os.PathLike:
    """The file itself, the generator of a run's folder, or one that ships with the package."""
    if os.path.isfile(path):
        if os.fspath(path).endswith(PYTORCH):
            raise WeightsError(f"{path} is a PyTorch checkpoint; {import_hint(path)}")
        return path
    of_run = os.path.join(path, "generator.safetensors")
    if os.path.isfile(of_run):
        return of_run
    return pretrained.path_of(str(path)) or (of_run if os.path.isdir(path) else path)


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
        deviation = np.sqrt(np.asarray(statistics["var"], np.float64) + weights.architecture[_epsilon_field(name)])
        slope = np.asarray(norm["scale"], np.float64) / deviation
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
    have = weights.architecture["blocks"]
    if blocks < have:
        raise WeightsError(f"expected {have} blocks or more, got {blocks}")
    architecture = dict(weights.architecture) | {"blocks": blocks}
    module = build(GENERATORS, architecture)
    fresh = jax.device_get(module.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32)))
    variables = {kind: dict(layers) for kind, layers in fresh.items()}
    for index in range(have, blocks):
        layers = variables["params"]
        last = next((n for n in (f"block_{index:02d}_norm_2", f"block_{index:02d}_conv_2") if n in layers), None)
        if last is None:
            raise WeightsError(f"blocks can't be added to this {architecture['name']}: theirs are no plain residuals")
        layers[last] = jax.tree.map(np.zeros_like, layers[last])
    for kind, layers in weights.variables.items():
        variables[kind] |= layers
    return make_weights(jax.tree.map(jnp.asarray, variables), architecture)


def load(path: str | os.PathLike, *, fold: bool = True) -> Weights:
    """Reads a generator.

    Args:
      path: a `.safetensors` written by `save`, the folder of a training run (its `generator.safetensors`), or the name
        of a generator that ships with the package (`pretrained.names()`).
      fold: make batch normalisation part of the convolutions, which is quicker and gives the same pictures; False
        for training on.

    Returns:
      `Weights`, the `params` of `srgan_jax.upscale`.

    Raises:
      FileNotFoundError: no such file.
      WeightsError: not a generator of this package, or damaged.
    """
    path = _file_of(path)
    tensors, header = read_tensors(path, FORMAT)
    variables = unflatten_dict({tuple(name.split("/")): tensor.astype(np.float32) for name, tensor in tensors.items()})
    try:
        loaded = make_weights(jax.tree.map(jnp.asarray, variables), json.loads(header["architecture"]))
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: {error}") from None
    return fold_norms(loaded) if fold else loaded


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


def load_extractor(path: str | os.PathLike, network: str = "vgg19") -> tuple[dict[str, Any], dict[str, str]]:
    """Reads the weights of a feature extractor.

    Args:
      path: a `.safetensors` written by `scripts/port_NETWORK.py`.
      network: a name in `models.EXTRACTORS`, which the file must be for.

    Returns:
      Variables of `models.EXTRACTORS[header["network"]]`, float32, and the header; its "convention" says how the
      weights want their input.

    Raises:
      MissingFileError: no such file; the message names the command that makes it.
      WeightsError: not such a file.
    """
    if not os.path.isfile(path):
        raise MissingFileError(
            f"no {network} weights at {os.fspath(path)}; get them with: python scripts/port_{network}.py --download "
            f"--out {os.fspath(path)} (or give it a file you have)"
        )
    tensors, header = read_tensors(path, EXTRACTOR_FORMAT)
    if header["network"] != network:
        raise WeightsError(f"{path} holds {header['network']}, but config.extractor.name is {network}")
    flat = {tuple(name.split("/")): tensor.astype(np.float32) for name, tensor in tensors.items()}
    return {"params": unflatten_dict(flat)}, header


def save_extractor(path: str | os.PathLike, tensors: Mapping[str, np.ndarray], header: Mapping[str, str]) -> None:
    """Writes the weights of a feature extractor: "layer/kernel" (HWIO) and "layer/bias" to array."""
    write_tensors(path, tensors, {"format": EXTRACTOR_FORMAT} | dict(header))
