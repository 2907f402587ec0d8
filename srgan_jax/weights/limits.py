"""Checks of the architecture in a weights file, before anything is built: types and sizes of its fields."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from srgan_jax.config.networks import NETWORK_MINIMA
from srgan_jax.runtime.disk_cache import cached_on_disk
from srgan_jax.runtime.lazy_table import LazyTable
from srgan_jax.weights.safetensors_io import WeightsError

if TYPE_CHECKING:
    import flax.linen as nn

LAYER_FIELDS = ("blocks", "depths")  # numbers of blocks, each traced when the network is built
MAX_LAYERS = 256  # the largest published generators have 40
SHARED_LAYERS = 64  # as many may share their tensors, so that the file has fewer tensors than layers
LARGEST = {"scale": 16, "unshuffle": 16, "window": 32, "split": 32, "kernel_size": 255, "crop_px": 4096}
LARGEST_FIELD = 1 << 16  # of any other integer: widths


def read_architecture(header: Mapping[str, str], table: "LazyTable[type[nn.Module]]", tensors: int) -> dict[str, Any]:
    """Returns the architecture that the header of a weights file describes.

    Args:
      header: has "architecture", JSON.
      table: `GENERATORS` or `DISCRIMINATORS`.
      tensors: number of tensors in the file.

    Raises:
      WeightsError: it isn't JSON of an object with a known name, a field has another type than in the network, or a
        size with which building the network would take minutes or much memory.
    """
    try:
        found = json.loads(header["architecture"])
    except (KeyError, ValueError, RecursionError):
        raise WeightsError("the header has no architecture in JSON; the file is damaged") from None
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        raise WeightsError("the architecture in the header has no name; the file is damaged")
    if found["name"] not in table:
        raise WeightsError(
            f"unknown architecture {found['name']!r:.80}; valid: {', '.join(sorted(table))}. For one of your own, "
            "import the module that adds it to the table first; in a command: --import MODULE"
        )
    try:
        cached_on_disk(
            "fields", {"tensors": tensors, "fields": found}, table.is_of_package(found["name"]),
            lambda: check_architecture(found, table[found["name"]], tensors),
        )  # fmt: skip
    except RecursionError:  # lists in lists
        raise WeightsError("the architecture in the header is nested too deeply; the file is damaged") from None
    return found


def check_architecture(architecture: Mapping[str, Any], module: "type[nn.Module]", tensors: int) -> None:
    """Raises WeightsError if a field of `module` has another type, or an absurd size: see `read_architecture`."""
    defaults = {field.name: field.default for field in dataclasses.fields(module)}
    for name, value in architecture.items():
        default = defaults.get(name, dataclasses.MISSING)
        if name == "name" or default is dataclasses.MISSING:
            continue  # `models.build` reports a field that the network doesn't have
        _check_type(name, value, default)
        _check_size(name, value)
    layers = sum(_total(architecture.get(name, 0)) for name in LAYER_FIELDS)
    most = min(MAX_LAYERS, max(tensors, SHARED_LAYERS))
    if layers > most:
        raise WeightsError(f"the architecture has {layers} blocks, expected at most {most} for {tensors} tensors")


def _check_type(name: str, value: Any, default: Any) -> None:
    if isinstance(default, tuple):  # its items have one type; a default without items has names or numbers
        fits = isinstance(value, list | tuple) and all(_fits(item, default[0] if default else item) for item in value)
    else:
        fits = _fits(value, default)
    if not fits:
        raise WeightsError(f"the architecture's {name} is {value!r:.80}, expected a value such as {default!r}")


def _fits(value: Any, default: Any) -> bool:
    if default is None or isinstance(value, bool) != isinstance(default, bool):
        return default is None and isinstance(value, int | float | str | None)
    return isinstance(value, int | float if isinstance(default, float) else type(default)) and not (
        isinstance(value, dict | list)
    )


def _check_size(name: str, value: Any) -> None:
    largest, smallest = LARGEST.get(name, LARGEST_FIELD), NETWORK_MINIMA.get(name, 0)
    for item in value if isinstance(value, list | tuple) else [value]:
        if isinstance(item, int) and not smallest <= item <= largest:
            raise WeightsError(f"the architecture's {name} is {item:.6g}, expected {smallest} to {largest}")
        if isinstance(item, float) and not math.isfinite(item):
            raise WeightsError(f"the architecture's {name} is {item}, expected a finite number")


def _total(value: Any) -> int:
    return sum(value) if isinstance(value, list | tuple) else int(value)
