"""Export of generators to StableHLO and ONNX; each file is compared with the original before it is written."""

from collections.abc import Callable
from typing import Any

from srgan_jax.export.onnx import to_onnx
from srgan_jax.export.stablehlo import load_stablehlo, to_stablehlo

__all__ = ["EXPORTERS", "load_stablehlo", "to_onnx", "to_stablehlo"]
EXPORTERS: dict[str, tuple[str, Callable[..., Any]]] = {
    "stablehlo": (".stablehlo.zip", to_stablehlo),
    "onnx": (".onnx", to_onnx),
}
