"""A discriminator on the features of a fixed network, beside a small one on pixels."""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.models import discriminator_layers
from srgan_jax.ops import color
from srgan_jax.runtime.errors import UserError


class FeatureDiscriminator(nn.Module):
    """One head per feature map of the extractor, and a patch network on the image; a tuple with the logits of each.

    The extractor is fixed, and its features also serve the perceptual loss, so that a discriminator costs little
    (SRFeat, Park et al., ECCV 2018; projected GANs, Sauer et al., arXiv 2111.01007). Each head is 1x1, 3x3 and 3x3
    convolutions with spectral normalisation. Takes images `[N, H, W, 3]` in [0, 1] and their features by tap.
    """

    TAKES: ClassVar[tuple[str, ...]] = ("image", "features")

    taps: tuple[str, ...] = ("relu1_2", "relu2_2", "relu3_1")  # feature maps of the extractor, one head for each
    tap_scales: tuple[float, ...] = ()  # factors that give each map a standard deviation of about 1; (): 1
    tap_widths: tuple[int, ...] = (32, 64, 64)  # channels of each head
    patch_widths: tuple[int, ...] = (32, 48, 64, 96)  # channels of the layers of the patch network; (): none
    spectral_norm: bool = True
    negative_slope: float = 0.2
    dtype: Any = jnp.float32
    axis_name: str | None = None  # unused: no batch statistics

    @nn.compact
    def __call__(
        self,
        image: jax.Array,
        features: Mapping[str, jax.Array],
        *,
        train: bool = False,
        keys: jax.Array | None = None,
    ) -> tuple[jax.Array, ...]:
        del keys  # no dropout
        self._check()
        scales = self.tap_scales or (1.0,) * len(self.taps)
        logits = [
            self._head(scale * features[tap], width, tap, train)
            for tap, scale, width in zip(self.taps, scales, self.tap_widths, strict=True)
        ]
        if self.patch_widths:
            logits.append(self._patch(color.to_signed(image), train))
        return tuple(logits)

    def _head(self, x: jax.Array, width: int, tap: str, train: bool) -> jax.Array:
        x = self._leaky(self._conv(x, width, f"{tap}_conv_1", train, size=1))
        x = self._leaky(self._conv(x, width, f"{tap}_conv_2", train))
        return self._conv(x, 1, f"{tap}_conv_3", train).astype(jnp.float32)

    def _patch(self, x: jax.Array, train: bool) -> jax.Array:
        last = len(self.patch_widths) - 1
        for index, width in enumerate(self.patch_widths):
            stride = 2 if 0 < index < last else 1
            size = 4 if stride == 2 else 3
            x = self._leaky(self._conv(x, width, f"patch_conv_{index + 1}", train, size=size, stride=stride))
        return self._conv(x, 1, f"patch_conv_{last + 2}", train).astype(jnp.float32)

    def _conv(self, x: jax.Array, features: int, name: str, train: bool, size: int = 3, stride: int = 1) -> jax.Array:
        options: dict[str, Any] = {"stride": stride, "pad": 1} if size > 1 else {}
        layer = discriminator_layers.conv(
            features, size, name, spectral=self.spectral_norm, train=train, dtype=self.dtype, **options
        )
        return layer(x.astype(self.dtype))

    def _leaky(self, x: jax.Array) -> jax.Array:
        return nn.leaky_relu(x, self.negative_slope)

    def _check(self) -> None:
        for name, values in (("tap_scales", self.tap_scales or self.taps), ("tap_widths", self.tap_widths)):
            if len(values) != len(self.taps):
                raise UserError(f"config.discriminator.{name} has {len(values)} values, expected one for each tap: "
                                f"{', '.join(self.taps)}")  # fmt: skip
        if not self.taps and not self.patch_widths:
            raise UserError("config.discriminator has neither taps nor patch_widths: it would have no logits")
