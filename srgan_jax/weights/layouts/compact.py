"""Layout of SRVGGNetCompact."""

from typing import Any

from srgan_jax.weights.layouts.layout import Entries, Tensors, conv, require, slope
from srgan_jax.weights.safetensors_io import WeightsError

SLOPELESS = ("relu", "leaky_relu_01")  # activations that a file can't tell


def is_compact(tensors: Tensors) -> bool:
    """Returns whether all tensors are those of one list `body.N` of convolutions and activations."""
    numbers = [name.split(".") for name in tensors]
    if not all(len(parts) == 3 and parts[0] == "body" and parts[1].isdigit() for parts in numbers):
        return False
    first = tensors.get("body.0.weight")
    return first is not None and first.ndim == 4 and first.shape[1:] == (3, 3, 3)


def compact(tensors: Tensors, activation: str = "relu") -> tuple[dict[str, Any], Entries]:
    """Real-ESRGAN, `SRVGGNetCompact`: `body.0`, `body.1`, ...: a convolution, an activation, a convolution, ...

    Args:
      tensors: of the file.
      activation: used if there are no PReLU vectors, so that the file doesn't tell: "relu" or "leaky_relu_01".
    """
    numbers = sorted({int(name.split(".")[1]) for name in tensors})
    convs = [number for number in numbers if tensors[f"body.{number}.weight"].ndim == 4]
    has_slopes = len(convs) < len(numbers)
    if not has_slopes and activation not in SLOPELESS:
        raise WeightsError(f"activation={activation!r}: expected {' or '.join(SLOPELESS)}")
    if convs != list(range(0, 2 * len(convs), 2)):
        raise WeightsError("expected convolutions alternating with activations")
    scale = round((require(tensors, f"body.{convs[-1]}.bias").shape[0] / 3) ** 0.5)
    names = ["in", *(f"{index:02d}" for index in range(len(convs) - 2)), "out"]
    entries: Entries = {}
    for name, number in zip(names, convs, strict=True):
        entries |= conv(f"conv_{name}", f"body.{number}")
        entries |= slope(f"act_{name}", f"body.{number + 1}") if has_slopes and name != "out" else {}
    fields = {"blocks": len(convs) - 2, "width": tensors["body.0.weight"].shape[0], "scale": scale}
    return {"name": "srvggnet_compact", **fields, "activation": "prelu" if has_slopes else activation}, entries
