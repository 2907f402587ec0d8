"""Layouts of the discriminators of BasicSR and Real-ESRGAN."""

from typing import Any

import numpy as np

from srgan_jax.weights.layouts.layout import Entries, Source, Tensors, conv, count, norm, require

UNET_LAYERS = {  # ours -> theirs, of the layers with spectral normalisation
    "conv_down_1": "conv1", "conv_down_2": "conv2", "conv_down_3": "conv3", "conv_up_2": "conv4", "conv_up_1": "conv5",
    "conv_up_0": "conv6", "conv_out_1": "conv7", "conv_out_2": "conv8",
}  # fmt: skip
SPELLINGS = (  # of kernel, u and v in PyTorch's two forms of spectral normalisation
    ("weight_orig", "weight_u", "weight_v"),
    ("parametrizations.weight.original", "parametrizations.weight.0._u", "parametrizations.weight.0._v"),
)


def is_unet(tensors: Tensors) -> bool:
    """Returns whether the tensors are those of `UNetDiscriminatorSN`."""
    ends = {"conv0.weight", "conv9.weight"} <= tensors.keys()
    return ends and any(f"conv4.{kernel}" in tensors for kernel, _, _ in SPELLINGS)


def unet(tensors: Tensors) -> tuple[dict[str, Any], Entries]:
    """XPixelGroup/BasicSR, `UNetDiscriminatorSN`, with the vectors u and v of spectral normalisation."""
    entries = conv("conv_in", "conv0") | conv("conv_out_3", "conv9")
    for ours, theirs in UNET_LAYERS.items():
        kernel, u, v = next((names for names in SPELLINGS if f"{theirs}.{names[0]}" in tensors), SPELLINGS[0])
        shape = require(tensors, f"{theirs}.{kernel}").shape

        def in_our_order(value: np.ndarray, shape: tuple[int, ...] = shape[1:]) -> np.ndarray:
            return value.reshape(shape).transpose(1, 2, 0).ravel()  # rows, columns, channels

        entries |= {
            f"params/{ours}/kernel": Source(f"{theirs}.{kernel}"),
            f"batch_stats/{ours}/u": Source(f"{theirs}.{u}"),
            f"batch_stats/{ours}/v": Source(f"{theirs}.{v}", in_our_order),
        }
    width = require(tensors, "conv0.weight").shape[0]
    return {"name": "unet", "width": width, "input_range": "unit"}, entries


def is_vgg(tensors: Tensors) -> bool:
    """Returns whether the tensors are those of `VGGStyleDiscriminator`."""
    return {"conv0_0.weight", "conv0_1.weight", "bn0_1.weight", "linear1.weight", "linear2.weight"} <= tensors.keys()


def vgg(tensors: Tensors) -> tuple[dict[str, Any], Entries]:
    """XPixelGroup/BasicSR, `VGGStyleDiscriminator`, for crops of 128 or 256 pixels."""
    levels = count(tensors, "conv{}_0.weight")
    entries: Entries = {}
    for level in range(levels):
        for index in (0, 1):
            entries |= conv(f"conv_{level}_{index}", f"conv{level}_{index}")
            entries |= norm(f"norm_{level}_{index}", f"bn{level}_{index}")

    def in_our_order(value: np.ndarray) -> np.ndarray:
        """Returns a kernel for features by row, column and channel, of one for channel, row and column."""
        outputs = value.shape[0]
        return value.reshape(outputs, -1, 4, 4).transpose(2, 3, 1, 0).reshape(-1, outputs)

    entries |= conv("dense_1", "linear1") | conv("dense_2", "linear2")
    entries |= {"params/dense_1/kernel": Source("linear1.weight", in_our_order)}
    fields = {"crop_px": 4 * 2**levels, "width": require(tensors, "conv0_0.weight").shape[0]}
    return {"name": "vgg", **fields, "dense": require(tensors, "linear1.weight").shape[0]}, entries
