"""SRGAN on faces (CelebA) with a least-squares GAN loss: the paper's two networks, 160 px crops of the aligned images.

Unlike the paper: least squares x 1e-3 + L1 on VGG19, without pretraining; Adam 1e-4 with b1 0.5, batch 4, 5 epochs of
the 162,770 training images (178 x 218 px). The source doesn't state the layer of VGG19; this is phi5,4.

srgan-jax prepare celeb_a
python -m srgan_jax.main --config celeba_lsgan --workdir runs/celeba_lsgan
Needs VGG19's weights: srgan-jax port vgg19 --download
The source reports no scores. Not run in full here; 50 updates on 399 photographs at reduced width (4 blocks of 32, a
discriminator of 16, 96 px crops, batch 4, Keras' VGG19): loss 0.179, 0.122, 0.083 at updates 1, 25, 50.
"""

from ml_collections import ConfigDict

from srgan_jax import defaults


def get_config() -> ConfigDict:
    config = defaults.get_config()
    config.stage_names = ("gan",)
    config.data.dataset = "celeb_a"
    config.data.source = "stream"  # 200,000 images
    config.data.crop_px = 160
    config.data.batch_size = 4

    gan = config.stages.gan
    gan.total_steps = 5 * 162_770 // 4
    gan.schedule = "constant"
    gan.losses.perceptual.options.distance = "l1"
    gan.losses.adversarial.term = "lsgan"
    gan.b1 = 0.5
    return config
