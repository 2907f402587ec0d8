"""The discriminator of SRGAN, with its common variations."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.models import discriminator_layers, layers
from srgan_jax.runtime.errors import lookup

HEADS = ("flatten", "positions", "patch")
STRIDES = {"alternating": (1, 2), "one": (1, 1)}


class SRGANDiscriminator(nn.Module):
    """The discriminator of SRGAN (arXiv 1609.04802, figure 4) with its common variations as fields.

    Eight convolutions and a head. The paper's head, "flatten", maps `[N, crop_px, crop_px, 3]` in [0, 1] to `[N, 1]`
    logits. The others map `[N, H, W, 3]` of any size to `[N, H / 16, W / 16, 1]` logits: "positions" applies the dense
    layers at each position, "patch" a convolution. `input_range` is that of the first convolution's input.
    """

    TAKES: ClassVar[tuple[str, ...]] = ("image",)

    crop_px: int = 96
    width: int = 64  # channels of the first two convolutions; then 2, 4 and 8 times as many
    head: str = "flatten"  # a name in HEADS
    dense: int = 1024
    strides: str = "alternating"  # or "one": stride 1 everywhere
    padding: str = "symmetric"  # a name in layers.PADDINGS, for stride 2
    input_range: str = "signed"  # a name in layers.RANGES
    block_order: str = "norm_activation"  # or "activation_norm"
    negative_slope: float = 0.2  # of the LeakyReLUs
    norm: str = "batch"  # or "none"
    bn_momentum: float = 0.9  # fraction of the old running statistics kept at each update
    bn_epsilon: float = 1e-5
    use_bias: bool = True  # of the convolutions that no norm directly follows
    spectral_norm: bool = False
    minibatch_kernels: int = 0  # of minibatch discrimination before the last layer
    dropout: float = 0.0  # of the logits
    initialization: str = "lecun"  # a name in layers.INITIALIZATIONS
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool = False, keys: jax.Array | None = None) -> jax.Array:
        self._check(image)
        x = layers.from_unit(image, self.input_range).astype(self.dtype)
        for index in range(8):
            x = self._block(x, index, train)
        if self.head == "flatten":
            x = x.reshape(x.shape[0], 1, 1, -1)
        if self.head != "patch":
            x = nn.leaky_relu(self._conv(x, self.dense, 1, "dense_1", train), self.negative_slope)
        if self.minibatch_kernels:
            axis_name = self.axis_name if train else None
            x = discriminator_layers.MinibatchDiscrimination(
                self.minibatch_kernels, axis_name=axis_name, name="minibatch"
            )(x)
        size, name = (3, "conv_9") if self.head == "patch" else (1, "dense_2")
        x = self._conv(x, 1, size, name, train).astype(jnp.float32)
        x = x[:, 0, 0] if self.head == "flatten" else x
        return discriminator_layers.dropout(x, self.dropout, keys) if self.dropout and train else x

    def _check(self, image: jax.Array) -> None:
        lookup(dict.fromkeys(HEADS), self.head, "head")
        lookup(dict.fromkeys(("batch", "none")), self.norm, "norm")
        if self.head == "flatten" and image.shape[1:3] != (self.crop_px, self.crop_px):
            raise ValueError(
                f"discriminator: expected {self.crop_px} x {self.crop_px} crops, got {image.shape[1:]}; "
                "set discriminator.crop_px to the side of the crops"
            )

    def _block(self, x: jax.Array, index: int, train: bool) -> jax.Array:
        norm_first = lookup(layers.BLOCK_ORDERS, self.block_order, "block order")
        has_norm = self.norm == "batch" and index > 0
        stride = lookup(STRIDES, self.strides, "strides")[index % 2]
        bias = self.use_bias and not (has_norm and norm_first)
        features = self.width * 2 ** (index // 2)
        x = self._conv(x, features, 3, f"conv_{index + 1}", train, stride=stride, use_bias=bias)
        x = self._norm(x, f"norm_{index + 1}", train) if has_norm and norm_first else x
        x = nn.leaky_relu(x, self.negative_slope)
        return self._norm(x, f"norm_{index + 1}", train) if has_norm and not norm_first else x

    def _conv(self, x: jax.Array, features: int, size: int, name: str, train: bool, *, stride: int = 1, **kwargs: Any):
        initialization = lookup(layers.INITIALIZATIONS, self.initialization, "initialization")
        kwargs |= initialization(size * size * x.shape[-1])
        if size > 1:
            rows, columns = (layers.padding_of(self.padding, size, stride, side) for side in x.shape[1:3])
            kwargs |= {"stride": stride, "pad": (rows, columns)}
        kwargs |= {"dtype": self.dtype, "spectral": self.spectral_norm, "train": train}
        return discriminator_layers.conv(features, size, name, **kwargs)(x)

    def _norm(self, x: jax.Array, name: str, train: bool) -> jax.Array:
        kwargs = {"momentum": self.bn_momentum, "epsilon": self.bn_epsilon, "dtype": self.dtype}
        return layers.batch_norm(name, train=train, axis_name=self.axis_name, **kwargs)(x)
