"""A GAN for CPUs: a discriminator on the features of VGG19 that the perceptual loss computes anyway.

python -m srgan_jax.main --config srgan_fast --workdir runs/srgan_fast --config.data.dataset=data/train
Needs VGG19: srgan-jax port vgg19 FILE, see docs/weights.md. Not the paper's. The discriminator is that of SRFeat (Park
et al., ECCV 2018) and projected GANs (Sauer et al., arXiv 2111.01007) in small, beside a patch network; the generator's
input has a halo, because most pixels of a small crop otherwise depend on its border. Scores of srgan_x4: RESULTS.md.
"""

from ml_collections import ConfigDict

from srgan_jax import defaults

TAPS = ("relu1_2", "relu2_2", "relu3_1")
STD = (14.7, 17.6, 18.6)  # of the scaled features, measured on crops of 56 photographs; with torchvision's others


def get_config() -> ConfigDict:
    config = defaults.get_config()
    config.generator = ConfigDict({"name": "srvggnet_compact", "blocks": 12, "width": 48, "scale": 4})
    config.discriminator = ConfigDict({
        "name": "features", "taps": TAPS, "tap_scales": tuple(1 / std for std in STD), "tap_widths": (32, 64, 64),
        "patch_widths": (32, 48, 64, 96),
    })  # fmt: skip
    config.data.batch_size = 8
    config.data.crop_px = 64
    config.data.halo_px = 8
    config.data.min_contrast = 8.0
    config.ema_decay = 0.998

    pretrain = config.stages.pretrain
    pretrain.total_steps = 60_000
    pretrain.losses.pixel.term = "l1"
    pretrain.learning_rate = 1e-3
    pretrain.schedule = "cosine"
    pretrain.warmup_steps = 500

    gan = config.stages.gan
    gan.total_steps = 4_000
    gan.learning_rate = gan.discriminator_learning_rate = 2e-4
    gan.b1, gan.b2 = 0.5, 0.99
    gan.schedule = "cosine"
    gan.losses.pixel = {"term": "l1", "weight": 0.05, "ramp_steps": 0, "options": {}}
    gan.losses.perceptual.options = {
        "distance": "l1", "taps": TAPS, "tap_weights": tuple(1 / std / len(STD) for std in STD)
    }  # fmt: skip
    gan.losses.consistency = {"term": "consistency", "weight": 1.0, "ramp_steps": 0, "options": {"factor": 4}}
    gan.losses.lattice = {"term": "lattice", "weight": 0.03, "ramp_steps": 0, "options": {"period": 4}}
    gan.losses.adversarial.term = "hinge"
    gan.losses.adversarial.weight = 0.1
    return config
