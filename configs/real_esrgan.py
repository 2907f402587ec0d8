"""Real-ESRGAN (Wang et al., arXiv 2107.10833): photographs as people have them, enlarged.

RRDBNet; LR by the second-order degradation (blur, resize, noise, JPEG, twice), made on the device inside the update;
L1 for a million updates at 2e-4, then 400,000 at 1e-4 of L1 + L1 on five layers of VGG19 before the activation + BCE
x 0.1 against a U-Net discriminator with spectral normalisation; 256 px crops, batch 48. The authors sharpen the
targets of the two L1 terms, which is left out here, as is their pool of shuffled samples: every sample has its own
degradation anyway.

python -m srgan_jax.main --config real_esrgan --workdir runs/real_esrgan
Needs VGG19's weights: srgan-jax port vgg19 --download
Published: no reference scores, only NIQE on real photographs. Not run here.
"""

from ml_collections import ConfigDict

from srgan_jax import defaults


def get_config() -> ConfigDict:
    config = defaults.get_config()
    config.data.crop_px = 256
    config.data.batch_size = 48
    config.data.tile_px = 1024  # a crop with its margins takes 504
    config.generator = ConfigDict({"name": "rrdb", "blocks": 23, "width": 64, "growth": 32, "scale": 4})
    config.discriminator = ConfigDict({"name": "unet", "width": 64, "spectral_norm": True, "minibatch_kernels": 0})
    config.degradation = ConfigDict({"name": "second_order"})

    pretrain = config.stages.pretrain
    pretrain.losses.pixel.term = "l1"
    pretrain.learning_rate = 2e-4

    gan = config.stages.gan
    gan.total_steps = 400_000
    gan.schedule = "constant"
    gan.losses.pixel.term = "l1"
    gan.losses.pixel.weight = 1.0
    gan.losses.perceptual.options.distance = "l1"
    gan.losses.perceptual.options.taps = ("conv1_2", "conv2_2", "conv3_4", "conv4_4", "conv5_4")
    gan.losses.perceptual.options.tap_weights = (0.1, 0.1, 1.0, 1.0, 1.0)
    gan.losses.adversarial.weight = 0.1
    return config
