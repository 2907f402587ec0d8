"""ESRGAN (Wang et al., arXiv 1809.00219): RRDBNet, VGG19's features before the activation, relativistic average GAN.

Unlike the paper of SRGAN: L1 for a million updates at 2e-4 (halved every 200,000), then 400,000 updates with the
discriminator at 1e-4 (halved after 50,000, 100,000, 200,000 and 300,000): L1 x 0.01 + L1 on conv5_4 + relativistic GAN
x 5e-3; 128 px crops, batch 16. The discriminator is SRGAN's, which is similar to the authors'.

python -m srgan_jax.main --config esrgan --workdir runs/esrgan
Needs VGG19's weights: srgan-jax port vgg19 FILE, see docs/weights.md
Published (perceptual index / LPIPS): Set5 3.75 / .075, Set14 2.93 / .133, BSD100 2.48 / .161. Not run here.
"""

from ml_collections import ConfigDict

from srgan_jax import defaults


def get_config() -> ConfigDict:
    config = defaults.get_config()
    config.data.crop_px = 128
    config.generator = ConfigDict({"name": "rrdb", "blocks": 23, "width": 64, "growth": 32, "scale": 4})

    pretrain = config.stages.pretrain
    pretrain.losses.pixel.term = "l1"
    pretrain.learning_rate = 2e-4
    pretrain.schedule = "piecewise"
    pretrain.drops = (0.2, 0.4, 0.6, 0.8)
    pretrain.drop_factor = 0.5

    gan = config.stages.gan
    gan.total_steps = 400_000
    gan.drops = (0.125, 0.25, 0.5, 0.75)
    gan.drop_factor = 0.5
    gan.losses.pixel.term = "l1"
    gan.losses.pixel.weight = 1e-2
    gan.losses.perceptual.options.distance = "l1"
    gan.losses.perceptual.options.taps = ("conv5_4",)
    gan.losses.adversarial.term = "relativistic"
    gan.losses.adversarial.weight = 5e-3
    return config
