"""SRGAN-VGG22 of the paper (arXiv 1609.04802): srgan.py with the content loss on VGG19's phi2,2.

python -m srgan_jax.main --config srgan_vgg22 --workdir runs/srgan_vgg22
Needs VGG19's weights: srgan-jax port vgg19 FILE, see docs/weights.md
Paper: Set5 29.84 dB / .8468, Set14 26.44 / .7518 (Y, border 4, daala SSIM).
"""

from ml_collections import ConfigDict

from srgan_jax import defaults


def get_config() -> ConfigDict:
    config = defaults.get_config()
    config.stages.gan.losses.perceptual.options.taps = ("relu2_2",)
    return config
