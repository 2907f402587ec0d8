"""SRGAN-VGG54 of the paper (arXiv 1609.04802).

SRResNet-MSE for a million updates, then 100,000 with the discriminator at 1e-4 and 100,000 at 1e-5.

python -m srgan_jax.main --config srgan --workdir runs/srgan
Needs VGG19's weights: srgan-jax port vgg19 FILE, see docs/weights.md
Paper: Set5 29.40 dB / .8472, Set14 26.02 / .7397, BSD100 25.16 / .6688 (Y, border 4, daala SSIM).
"""

from ml_collections import ConfigDict

from srgan_jax import defaults


def get_config() -> ConfigDict:
    return defaults.get_config()
