"""SRGAN as in a well-known Keras book: nearest-neighbour upsampling, a discriminator with logits at 16 x 16 positions.

Unlike the paper: whole images, resized to 256 px, and for LR from the original to 64 px, by antialiased bilinear;
horizontal flips; LR too in [-1, 1]; ReLU, and blocks in the order conv, ReLU, BN (momentum 0.8), conv, BN;
nearest-neighbour upsampling, then a convolution (256 channels); tanh. The discriminator's order is conv, LeakyReLU, BN;
its dense layers are applied at each position. Keras' initialisation and its padding at stride 2. Its loss is least
squares on its probabilities, in two steps of Adam, on real images and on images that the generator makes with its
running statistics; the generator's, on a batch of its own, is BCE x 1e-3 + MSE on VGG19's block3_conv3, which gets RGB
in [-1, 1]. No pretraining; Adam 2e-4 with b1 0.5, single images, 30,000 updates.

Differences from the source that are known:
- Convolutions before BN have no bias, which has no effect there. --config.generator.bias_before_norm=True gives the
  generator the 2,038,467 parameters of the source (without BN's running statistics).
- Images are drawn in epochs, in the source with replacement.
- Adam's epsilon is 1e-8, Keras' 1e-7. The source's two networks share one Adam, whose bias correction counts the steps
  of both; here each network counts its own. The discriminator's loss is half of Keras', which doesn't change Adam.
- In the generator's update the discriminator normalises by its batch; recent versions of Keras use its running
  statistics there, as it is frozen.
- LR is rounded to 8 bits and the resizing repeats the outermost pixels; Pillow renormalises its kernel at the borders.
The adversarial term is initially a hundred-thousandth of the loss (the first update prints the fraction of each term).
--config.extractor.preprocessing=caffe trains with VGG19's preprocessing and features over 12.75, as the paper does.

python -m srgan_jax.main --config keras_upsampling --workdir runs/keras_upsampling
Needs VGG19's weights: srgan-jax port vgg19 FILE, see docs/weights.md
The source reports no scores. Not run in full here; 50 updates on 399 photographs at reduced width (4 blocks of 32, a
discriminator of 16, 96 px, batch 4): loss 71.1, 41.4, 27.0 at updates 1, 25, 50.
"""

from ml_collections import ConfigDict

from srgan_jax import defaults


def get_config() -> ConfigDict:
    config = defaults.get_config()
    config.stage_names = ("gan",)
    config.data.resize_px = 256
    config.data.resize_kernel = "bilinear"
    config.data.lr_from_original = True
    config.data.crop_px = 256
    config.data.batch_size = 1
    config.data.augment = "horizontal"
    config.degradation.name = "bilinear"

    generator = config.generator
    generator.activation = "relu"
    generator.block_order = "activation_norm"
    generator.bn_momentum = 0.8
    generator.bn_epsilon = 1e-3  # Keras' default
    generator.upsampling = "nearest"
    generator.upsampling_width = 256
    generator.output = "tanh"
    generator.input_range = "signed"
    generator.initialization = "keras"

    discriminator = config.discriminator
    discriminator.head = "positions"
    discriminator.padding = "keras"
    discriminator.block_order = "activation_norm"
    discriminator.bn_momentum = 0.8
    discriminator.bn_epsilon = 1e-3
    discriminator.initialization = "keras"

    config.extractor.preprocessing = "signed"

    gan = config.stages.gan
    gan.total_steps = 30_000
    gan.schedule = "constant"
    gan.losses.perceptual.options.taps = ("relu3_3",)
    gan.losses.adversarial.term = "probability_lsgan"
    gan.step = "gan_keras"
    gan.learning_rate = gan.discriminator_learning_rate = 2e-4
    gan.b1 = 0.5
    return config
