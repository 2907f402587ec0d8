"""A small SRResNet, then a short SRGAN stage, on the photographs in scikit-image.

srgan-jax quickstart
About 4 minutes on two CPU cores; SRResNet gains about 0.55 dB over bicubic on the validation photograph (chelsea).
"""

from ml_collections import ConfigDict

from srgan_jax import defaults


def get_config() -> ConfigDict:
    config = defaults.get_config()
    config.data.dataset = "data/quickstart"
    config.data.crop_px = 64
    config.data.batch_size = 8
    config.validation.folder = "data/quickstart_photos/held_out"
    config.ema_decay = 0.99

    config.generator.blocks = 4
    config.generator.width = 32
    config.generator.norm = "none"
    config.generator.base = "bicubic"
    config.discriminator = ConfigDict({
        "name": "features", "taps": (), "tap_widths": (), "patch_widths": (32, 48, 64),
    })  # fmt: skip
    config.data.halo_px = 4
    config.data.min_contrast = 8.0

    pretrain = config.stages.pretrain
    pretrain.total_steps = 800
    pretrain.losses.pixel.term = "l1"
    pretrain.learning_rate = 1e-3
    pretrain.schedule = "cosine"

    gan = config.stages.gan
    gan.total_steps = 500
    gan.learning_rate = gan.discriminator_learning_rate = 2e-4
    gan.b1, gan.b2 = 0.5, 0.99
    gan.losses.pixel.term = "l1"
    gan.losses.pixel.weight = 0.05
    gan.losses.perceptual.weight = 0.0  # VGG19's weights are not on PyPI; the recipe quickstart_vgg19 has them
    gan.losses.consistency = {"term": "consistency", "weight": 0.5, "ramp_steps": 0, "options": {"factor": 4}}
    gan.losses.lattice = {"term": "lattice", "weight": 0.1, "ramp_steps": 0, "options": {"period": 4}}
    gan.losses.adversarial.term = "hinge"
    gan.losses.adversarial.weight = 0.01

    config.log_every_steps = 50
    config.validate_every_steps = 400
    config.save_every_steps = 400
    return config
