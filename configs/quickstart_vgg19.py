"""The quickstart with a discriminator on features of VGG19, and a perceptual loss on the same features.

python -m srgan_jax.main --config quickstart_vgg19 --workdir runs/quickstart_vgg19
`srgan-jax quickstart` takes this recipe where VGG19's weights are at hand: srgan-jax port vgg19 FILE, see
docs/weights.md.
srgan_fast.py in small: relu1_2 and relu2_2 only, and few updates.
"""

from ml_collections import ConfigDict

from srgan_jax.config.recipes import load_config

TAPS = ("relu1_2", "relu2_2")
STD = (14.7, 17.6)  # see srgan_fast.py


def get_config() -> ConfigDict:
    config = load_config("quickstart")
    config.unlock()
    config.discriminator.taps = TAPS
    config.discriminator.tap_scales = tuple(1 / std for std in STD)
    config.discriminator.tap_widths = (32, 64)

    gan = config.stages.gan
    gan.total_steps = 300
    gan.losses.perceptual.weight = 1.0
    gan.losses.perceptual.options = {
        "distance": "l1", "taps": TAPS, "tap_weights": tuple(1 / std / len(STD) for std in STD)
    }  # fmt: skip
    gan.losses.adversarial.weight = 0.1
    return config
