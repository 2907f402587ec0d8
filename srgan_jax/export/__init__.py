"""Export of generators to other runtimes; each file is compared with the original before it is written."""

from collections.abc import Callable
from typing import NamedTuple

from srgan_jax.export.graphs import GRAPHS, build_graph
from srgan_jax.export.ncnn import to_ncnn
from srgan_jax.export.onnx import to_onnx
from srgan_jax.export.stablehlo import load_stablehlo, to_stablehlo
from srgan_jax.export.torch import STATE_DICTS, to_torch

__all__ = [
    "EXPORTERS",
    "GRAPHS",
    "STATE_DICTS",
    "Exporter",
    "build_graph",
    "load_stablehlo",
    "to_ncnn",
    "to_onnx",
    "to_stablehlo",
    "to_torch",
]


class Exporter(NamedTuple):
    """A format.

    Attributes:
      write: a function of weights, path, provenance and `options`, that returns the largest difference.
      suffix: the end of a file's name; "{scale}" in it is replaced.
      options: keywords of `write` that the command line sets.
      beside: suffixes of further files that are written.
    """

    write: Callable[..., float]
    suffix: str
    options: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


EXPORTERS: dict[str, Exporter] = {
    "stablehlo": Exporter(to_stablehlo, ".stablehlo.zip"),
    "onnx": Exporter(to_onnx, ".onnx", ("opset", "half", "size")),
    "ncnn": Exporter(to_ncnn, "-x{scale}.param", beside=(".bin", ".json")),  # Upscayl reads the scale in the name
    "torch": Exporter(to_torch, ".safetensors", ("half",)),
}
