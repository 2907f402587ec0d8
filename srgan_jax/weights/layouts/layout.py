"""`Layout`, an entry of the table `LAYOUTS`, and the parts that layouts have in common.

To add the files of an architecture:

1. Write the generator (`srgan_jax/models/generators/NAME.py`) and add it to `GENERATORS`.
2. Write `weights/layouts/NAME.py` with one function, for instance

       def edsr(tensors):
           width = require(tensors, "conv_first.weight").shape[0]
           blocks = count(tensors, "body.{}.conv1.weight")
           entries = conv("conv_in", "conv_first") | conv("conv_out", "conv_last")
           for index in range(blocks):
               entries |= conv(f"block_{index:02d}_conv_1", f"body.{index}.conv1")
           return {"name": "edsr", "blocks": blocks, "width": width, "scale": 4}, entries

   It gets the tensors of a file without wrappers and prefixes, returns the fields of the generator and, for each of
   our tensors, the name of theirs. Kernels are transposed on the way: `[O, I, H, W]` to `[H, W, I, O]`, and those of
   dense layers `[O, I]` to `[I, O]`. Where that isn't enough, write `Source(name, convert)`.
3. Add `"edsr": Layout(edsr, detect, "EDSR (BasicSR)")` to `LAYOUTS` in `weights/layouts/__init__.py`. `detect(tensors)`
   returns whether names and shapes are those of this architecture; the first entry that returns True is used.

Missing and surplus tensors, and wrong shapes, are reported by the caller. What a file can't tell is a keyword argument
of the function with its usual value; `Layout.options` describes it, and `srgan-jax import --option KEY=VALUE` sets it.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from srgan_jax.weights.safetensors_io import WeightsError

Tensors = Mapping[str, np.ndarray]
UNSHUFFLES = {3: 1, 12: 2, 48: 4}  # channels of the input -> side of the blocks of pixels that become channels


def to_ours(value: np.ndarray) -> np.ndarray:
    """Returns a tensor in our layout: `[O, I, H, W]` as `[H, W, I, O]`, `[O, I]` as `[I, O]`, others unchanged."""
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T if value.ndim == 2 else value


class Source(NamedTuple):
    """A tensor of a file, and how it becomes one of ours."""

    name: str
    convert: Callable[[np.ndarray], np.ndarray] = to_ours


Entries = dict[str, Source]  # "params/conv_in/kernel" -> the tensor of the file


class Layout(NamedTuple):
    """How the files of one architecture, or of one project, are laid out.

    Attributes:
      describe: `(tensors, **options) -> (architecture, entries)`: "name" and fields of a generator, and for each of our
        tensors theirs. An entry whose tensor is absent is left out: optional ones need no `if`.
      detect: `tensors -> bool`, whether a file has this layout.
      about: the architecture and where its files are from, for `srgan-jax import --list`.
      ignores: a regular expression, searched in the names of tensors that are not needed (masks, indices).
      options: keyword arguments of `describe` that a file can't tell -> meaning and usual value.
    """

    describe: Callable[..., tuple[dict[str, Any], Entries]]
    detect: Callable[[Tensors], bool]
    about: str
    ignores: str = r"num_batches_tracked$"
    options: Mapping[str, str] = {}


def count(tensors: Tensors, pattern: str) -> int:
    """Returns n such that `pattern` formatted with 0, 1, ..., n - 1 names a tensor, and with n none."""
    number = 0
    while pattern.format(number) in tensors:
        number += 1
    return number


def require(tensors: Tensors, name: str) -> np.ndarray:
    """Returns a tensor; raises WeightsError if it is missing."""
    if name not in tensors:
        raise WeightsError(
            f"missing {name}; the file has {len(tensors)} tensors, such as {', '.join(list(tensors)[:3])}"
        )
    return tensors[name]


def unshuffle_of(first: np.ndarray) -> int:
    """Returns the side of the blocks of RGB pixels that are the channels of a network's input.

    Args:
      first: kernel `[O, I, H, W]` of the first convolution.

    Raises:
      WeightsError: I is not 3, 12 or 48.
    """
    channels = first.shape[1]
    if channels not in UNSHUFFLES:
        raise WeightsError(f"expected an input of 3 channels (RGB), 12 or 48 (unshuffled RGB), found {channels}")
    return UNSHUFFLES[channels]


def conv(ours: str, theirs: str) -> Entries:
    """Returns the entries of a convolution or a dense layer: kernel, and bias where there is one."""
    return {f"params/{ours}/kernel": Source(f"{theirs}.weight"), f"params/{ours}/bias": Source(f"{theirs}.bias")}


def slope(ours: str, theirs: str) -> Entries:
    """Returns the entry of a PReLU."""
    return {f"params/{ours}/slope": Source(f"{theirs}.weight")}


def norm(ours: str, theirs: str) -> Entries:
    """Returns the entries of a batch, layer or group normalisation; statistics where there are some."""
    return {
        f"params/{ours}/scale": Source(f"{theirs}.weight"),
        f"params/{ours}/bias": Source(f"{theirs}.bias"),
        f"batch_stats/{ours}/mean": Source(f"{theirs}.running_mean"),
        f"batch_stats/{ours}/var": Source(f"{theirs}.running_var"),
    }
