"""SRGAN with a fully convolutional discriminator and a least-squares loss, as in a popular PyTorch collection of GANs.

Unlike the paper: the discriminator has a logit for each 16 x 16 patch; inputs are normalised by ImageNet's mean and
standard deviation; tanh; BN in the blocks, not in the upsampling, with epsilon 0.8, the meaning of the source's second
argument (probably intended as the momentum); the generator is updated before the discriminator; least squares x 1e-3 +
L1 on VGG19 after conv3_4's ReLU, without pretraining; Adam 2e-4 with b1 0.5, batch 4, 256 px.

The source's tanh is in ImageNet's normalised range, so the output can't reach the lightest and darkest values; here it
is in [-1, 1] (--config.generator.output_range=imagenet reproduces the source). The source resizes whole images to
256 px; here crops are taken.

An older version of the source: --config.generator.activation=relu --config.generator.initialization=normal
--config.discriminator.initialization=normal --config.generator.norm_upsampling=True
--config.stages.gan.losses.perceptual.options.taps="('conv3_1',)"

python -m srgan_jax.main --config patchgan_lsgan --workdir runs/patchgan_lsgan
Needs VGG19's weights: srgan-jax port vgg19 --download torchvision (as the source; with Keras' weights the content term
is much larger relative to the others)
The source reports no scores. Not run in full here; 50 updates on 399 photographs at reduced width (4 blocks of 32, a
discriminator of 16, 96 px crops, batch 4, Keras' VGG19): loss 49.1, 41.2, 25.4 at updates 1, 25, 50.
"""

from ml_collections import ConfigDict

from srgan_jax import defaults


def get_config() -> ConfigDict:
    config = defaults.get_config()
    config.stage_names = ("gan",)
    config.data.crop_px = 256
    config.data.batch_size = 4

    config.generator.bn_epsilon = 0.8
    config.generator.output = "tanh"
    config.generator.input_range = "imagenet"
    config.discriminator.head = "patch"

    gan = config.stages.gan
    gan.schedule = "constant"
    gan.losses.perceptual.options.distance = "l1"
    gan.losses.perceptual.options.taps = ("relu3_4",)
    gan.losses.adversarial.term = "lsgan"
    gan.step = "gan_generator_first"
    gan.learning_rate = gan.discriminator_learning_rate = 2e-4
    gan.b1 = 0.5
    return config
