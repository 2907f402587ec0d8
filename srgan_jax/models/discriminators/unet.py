"""The U-Net discriminator of Real-ESRGAN: a logit for each pixel, from features of all resolutions."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.models import discriminator_layers, layers


class UNetDiscriminator(nn.Module):
    """U-Net with three down- and upsamplings and skip connections (Wang et al., arXiv 2107.10833, section 3.3).

    Maps `[N, H, W, 3]` in [0, 1], H and W divisible by 8, to `[N, H, W, 1]` logits. No batch normalisation; spectral
    normalisation in all but the first and last layer. XPixelGroup/BasicSR calls it `UNetDiscriminatorSN`; there the
    first convolution takes images in [0, 1].
    """

    TAKES: ClassVar[tuple[str, ...]] = ("image",)

    width: int = 64
    spectral_norm: bool = True
    minibatch_kernels: int = 0  # of minibatch discrimination at the lowest resolution
    input_range: str = "signed"  # of the values that the first convolution takes: a name in layers.RANGES
    dtype: Any = jnp.float32
    axis_name: str | None = None  # under pmap: the axis over which the batch is sharded

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool = False, keys: jax.Array | None = None) -> jax.Array:
        del keys  # no dropout
        if image.shape[1] % 8 or image.shape[2] % 8:
            raise ValueError(f"U-Net discriminator: expected crops with sides divisible by 8, got {image.shape[1:3]}")

        def conv(x, features, name, size=3, stride=1, spectral=self.spectral_norm):
            options = {"pad": 1, "stride": stride, "use_bias": not spectral, "dtype": self.dtype}
            return discriminator_layers.conv(features, size, name, spectral=spectral, train=train, **options)(x)

        def leaky(x):
            return nn.leaky_relu(x, 0.2)

        x = layers.from_unit(image, self.input_range).astype(self.dtype)
        x = leaky(conv(x, self.width, "conv_in", spectral=False))
        skips = []
        for level in (1, 2, 3):
            skips.append(x)
            x = leaky(conv(x, self.width * 2**level, f"conv_down_{level}", size=4, stride=2))
        if self.minibatch_kernels:
            axis_name = self.axis_name if train else None
            x = discriminator_layers.MinibatchDiscrimination(
                self.minibatch_kernels, axis_name=axis_name, name="minibatch"
            )(x)
        for level in (2, 1, 0):
            n, height, width, channels = x.shape
            x = jax.image.resize(x, (n, 2 * height, 2 * width, channels), "linear")
            x = leaky(conv(x, self.width * 2**level, f"conv_up_{level}")) + skips[level]
        x = leaky(conv(leaky(conv(x, self.width, "conv_out_1")), self.width, "conv_out_2"))
        return conv(x, 1, "conv_out_3", spectral=False).astype(jnp.float32)
