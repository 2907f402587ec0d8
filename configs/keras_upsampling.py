"""SRGAN as in a well-known Keras book: nearest-neighbour upsampling, a discriminator with logits at 16 x 16 positions.

Unlike the paper: 64 to 256 px, LR too in [-1, 1]; ReLU, and blocks in the order conv, ReLU, BN (momentum 0.8), conv,
BN; nearest-neighbour upsampling, then a convolution (256 channels); tanh. The discriminator's order is conv, LeakyReLU,
BN; its dense layers are applied at each position. Its loss is least squares on its probabilities; the generator's is
BCE x 1e-3 + MSE on VGG19's block3_conv3. No pretraining; Adam 2e-4 with b1 0.5.

With these weights the adversarial term is initially a millionth of the loss (the first update prints the fraction of
each term); --config.stages.gan.losses.perceptual.weight=1e-5 makes it effective.

The source passes images in [-1, 1] to VGG19; here VGG19 gets the BGR input that its weights expect, and features are
divided by 12.75. The source resizes whole photographs to 256 px; here crops are taken.

python -m srgan_jax.main --config keras_upsampling --workdir runs/keras_upsampling
Needs VGG19's weights: srgan-jax port vgg19 --download
The source reports no scores. Not run in full here; 50 updates on 399 photographs at reduced width (4 blocks of 32, a
discriminator of 16, 96 px crops, batch 4, Keras' VGG19): loss 2076, 1196, 595 at updates 1, 25, 50.
"""

from ml_collections import ConfigDict

from srgan_jax import defaults


def get_config() -> ConfigDict:
    config = defaults.get_config()
    config.stage_names = ("gan",)
    config.data.crop_px = 256
    config.data.batch_size = 4  # 1 in the source

    generator = config.generator
    generator.activation = "relu"
    generator.block_order = "activation_norm"
    generator.bn_momentum = 0.8
    generator.bn_epsilon = 1e-3  # Keras' default
    generator.upsampling = "nearest"
    generator.upsampling_width = 256
    generator.output = "tanh"
    generator.input_range = "signed"

    discriminator = config.discriminator
    discriminator.head = "positions"
    discriminator.block_order = "activation_norm"
    discriminator.bn_momentum = 0.8
    discriminator.bn_epsilon = 1e-3

    gan = config.stages.gan
    gan.schedule = "constant"
    gan.losses.perceptual.options.taps = ("relu3_3",)
    gan.losses.adversarial.term = "probability_lsgan"
    gan.learning_rate = gan.discriminator_learning_rate = 2e-4
    gan.b1 = 0.5
    return config
