"""SRGAN with a fully convolutional discriminator and a least-squares loss, as in a popular PyTorch collection of GANs.

Unlike the paper: faces (CelebA), resized to squares of 256 px, and LR of the original image to 64 px; no augmentation;
the networks take ImageNet's normalised range; tanh; one slope per PReLU; BN in the upsampling too, and in the blocks
with epsilon 0.8, the meaning of the source's second argument (probably intended as the momentum); PyTorch's
initialisation; the discriminator has a logit for each 16 x 16 patch; the generator is updated before it; least squares
x 1e-3 + L1 on VGG19 after conv3_4's ReLU, without pretraining; Adam 2e-4 with b1 0.5, batch 4; 200 epochs of 202,599
faces: 10,130,000 updates.

Differences from the source that are known:
- The source's tanh is in ImageNet's normalised range, so its output can't reach the lightest and darkest values; here
  it is in [-1, 1]. --config.generator.output_range=imagenet reproduces the source.
- Convolutions before BN have no bias, which has no effect there. --config.generator.bias_before_norm=True gives the
  generator the 1,550,486 parameters of the source.
- The source trains on all 202,599 faces, here on the 162,770 of the split `train`.
- LR is rounded to 8 bits and the resizing repeats the outermost pixels; Pillow renormalises its kernel at the borders.

An older version of the source: VGG19's features end at relu3_1, epsilon 1e-5, batch 1, ReLU, and kernels of std 0.02:
--config.stages.gan.losses.perceptual.options.taps=relu3_1 --config.generator.bn_epsilon=1e-5 --config.data.batch_size=1
--config.generator.activation=relu --config.generator.initialization=normal --config.discriminator.initialization=normal

srgan-jax prepare celeb_a
python -m srgan_jax.main --config patchgan_lsgan --workdir runs/patchgan_lsgan
Needs VGG19's weights: srgan-jax port vgg19 --download torchvision (as the source; with Keras' weights the content term
is much larger relative to the others)
The source reports no scores. Not run in full here; 50 updates on 399 photographs at reduced width (4 blocks of 32, a
discriminator of 16, 96 px, batch 4, Keras' VGG19): loss 51.2, 41.5, 35.9 at updates 1, 25, 50.
"""

from ml_collections import ConfigDict

from srgan_jax import defaults


def get_config() -> ConfigDict:
    config = defaults.get_config()
    config.stage_names = ("gan",)
    config.data.dataset = "celeb_a"
    config.data.source = "stream"  # 160,000 images
    config.data.resize_px = 256
    config.data.lr_from_original = True
    config.data.crop_px = 256
    config.data.batch_size = 4
    config.data.augment = "none"

    generator = config.generator
    generator.activation = "prelu_shared"
    generator.bn_epsilon = 0.8
    generator.norm_upsampling = True
    generator.output = "tanh"
    generator.input_range = "imagenet"
    generator.initialization = "pytorch"

    config.discriminator.head = "patch"
    config.discriminator.input_range = "imagenet"
    config.discriminator.initialization = "pytorch"

    gan = config.stages.gan
    gan.total_steps = 200 * 50_650  # batches of 4 of 202,599 images
    gan.schedule = "constant"
    gan.losses.perceptual.options.distance = "l1"
    gan.losses.perceptual.options.taps = ("relu3_4",)
    gan.losses.adversarial.term = "lsgan"
    gan.step = "gan_generator_first"
    gan.learning_rate = gan.discriminator_learning_rate = 2e-4
    gan.b1 = 0.5
    return config
