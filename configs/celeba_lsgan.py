"""SRGAN on faces (CelebA) with a least-squares GAN loss: the paper's two networks, 160 px crops of the aligned images.

Unlike the paper: least squares x 1e-3 + L1 on VGG19, without pretraining; Adam 1e-4 with b1 0.5, batch 4, 5 epochs of
the 162,770 training images (178 x 218 px), not augmented.

The source is a text without code. What it leaves open, and what is chosen here:
- "VGG feature map layer: 19" is read as number 19 of PyTorch's list of VGG19's layers: conv4_1, before its ReLU. The
  first 19 layers of that list end with the pool after relu3_4; layer 19 of Keras is relu5_3. Their taps:
  --config.stages.gan.losses.perceptual.options.taps=relu3_4 or relu5_3. PyTorch is assumed, as least squares with L1 on
  features are those of a popular PyTorch program.
- So the initialisation, and one slope per PReLU, are PyTorch's defaults.
- Where the crops lie, and how LR is made: at random places, by MATLAB's bicubic.

srgan-jax prepare celeb_a
python -m srgan_jax.main --config celeba_lsgan --workdir runs/celeba_lsgan
Needs VGG19's weights: srgan-jax port vgg19 --download torchvision
The source reports no scores. Not run in full here; 50 updates on 399 photographs at reduced width (4 blocks of 32, a
discriminator of 16, 96 px crops, batch 4, Keras' VGG19): loss 93.6, 84.1, 51.5 at updates 1, 25, 50.
"""

from ml_collections import ConfigDict

from srgan_jax import defaults


def get_config() -> ConfigDict:
    config = defaults.get_config()
    config.stage_names = ("gan",)
    config.data.dataset = "celeb_a"
    config.data.source = "stream"  # 160,000 images
    config.data.crop_px = 160
    config.data.batch_size = 4
    config.data.augment = "none"

    config.generator.activation = "prelu_shared"
    config.generator.initialization = config.discriminator.initialization = "pytorch"

    gan = config.stages.gan
    gan.total_steps = 5 * 162_770 // 4
    gan.schedule = "constant"
    gan.losses.perceptual.options.distance = "l1"
    gan.losses.perceptual.options.taps = ("conv4_1",)
    gan.losses.adversarial.term = "lsgan"
    gan.b1 = 0.5
    return config
