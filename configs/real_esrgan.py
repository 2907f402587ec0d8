"""Real-ESRGAN (Wang et al., arXiv 2107.10833): super-resolution of real photographs.

RRDBNet; LR by the second-order degradation (blur, resize, noise, JPEG, twice), computed on the device in the update; L1
for a million updates at 2e-4, then 400,000 at 1e-4 with L1 + L1 on five layers of VGG19 before the activation + BCE x
0.1, with a U-Net discriminator with spectral normalisation; 256 px crops, batch 48. Left out: the authors sharpen the
targets of the two L1 terms, and shuffle samples in a pool to vary degradations in a batch; here each sample has its own
degradation.

python -m srgan_jax.main --config real_esrgan --workdir runs/real_esrgan
Needs VGG19's weights: srgan-jax port vgg19 FILE, see docs/weights.md
Published: no reference scores, only NIQE on real photographs. Not run here.
"""

from ml_collections import ConfigDict

from srgan_jax import defaults


def get_config() -> ConfigDict:
    config = defaults.get_config()
    config.data.crop_px = 256
    config.data.batch_size = 48
    config.data.tile_px = 1024  # a crop with its margins is 504 px wide
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
