"""SRGAN with the compact generator, small enough for CPU cores: VGG54 and a U-Net discriminator, from compact_x4 on.

python -m srgan_jax.main --config configs/compact_gan.py --workdir runs/compact_gan --config.data.dataset=data/train
Not the paper's: the paper's content loss and a hundredth of L1, but a discriminator that judges every pixel, since few
updates are to be had. Needs VGG19's weights: python scripts/port_vgg19.py --download
"""

from ml_collections import ConfigDict

from srgan_jax import defaults


def get_config() -> ConfigDict:
    config = defaults.get_config()
    config.init_from = "compact_x4"
    config.generator = ConfigDict({"name": "compact", "blocks": 6, "width": 40, "scale": 4})
    config.discriminator = ConfigDict({"name": "unet", "width": 16, "spectral_norm": True, "minibatch_kernels": 0})
    config.data.batch_size = 8
    config.data.crop_px = 96

    config.stage_names = ("gan",)
    gan = config.stages.gan
    gan.total_steps = 4_000
    gan.learning_rate = 2e-4
    gan.discriminator_learning_rate = 2e-4
    gan.schedule = "cosine"
    gan.pixel = "l1"
    gan.pixel_weight = 1e-2
    return config
