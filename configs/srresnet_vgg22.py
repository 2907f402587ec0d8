"""SRResNet-VGG22 of the paper (arXiv 1609.04802): content loss on VGG19's phi2,2, total variation 2e-8.

No discriminator.

python -m srgan_jax.main --config srresnet_vgg22 --workdir runs/srresnet_vgg22
Needs VGG19's weights: srgan-jax port vgg19 FILE, see docs/weights.md
Paper: Set5 30.51 dB / .8803, Set14 27.19 / .7807 (Y, border 4, daala SSIM). Not run here.
"""

from ml_collections import ConfigDict

from srgan_jax import defaults


def get_config() -> ConfigDict:
    config = defaults.get_config()
    config.stage_names = ("pretrain",)
    stage = config.stages.pretrain
    stage.losses.pixel.weight = 0.0
    stage.losses.perceptual.weight = 1.0
    stage.losses.perceptual.options.taps = ("relu2_2",)
    stage.losses.total_variation.weight = 2e-8
    return config
