"""SRResNet-MSE of the paper (arXiv 1609.04802): 16 blocks, 96 px crops, batch 16, a million updates at 1e-4.

python -m srgan_jax.main --config srresnet --workdir runs/srresnet
Paper, trained on 350,000 photographs: Set5 32.05 dB / .9019, Set14 28.49 / .8184, BSD100 27.58 / .7620 (Y, border 4,
daala SSIM).
"""

from ml_collections import ConfigDict

from srgan_jax import defaults


def get_config() -> ConfigDict:
    config = defaults.get_config()
    config.stage_names = ("pretrain",)
    return config
