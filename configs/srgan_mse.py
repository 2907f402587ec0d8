"""SRGAN-MSE of the paper (arXiv 1609.04802): srgan.py with the mean squared error as content loss; no VGG19.

python -m srgan_jax.main --config srgan_mse --workdir runs/srgan_mse
Paper: Set5 30.64 dB / .8701, Set14 26.92 / .7611 (Y, border 4, daala SSIM).
"""

from ml_collections import ConfigDict

from srgan_jax import defaults


def get_config() -> ConfigDict:
    config = defaults.get_config()
    config.stages.gan.losses.pixel.weight = 1.0
    config.stages.gan.losses.perceptual.weight = 0.0
    return config
