"""A PyTorch SRGAN on faces (CelebA): LR by Gaussian blur and bilinear resizing, five residual blocks without bias.

Unlike the paper: HR is resized to 256 x 256, LR is blurred (5 x 5, sigma 4) and resized to 64; no convolution has a
bias; the discriminator's LeakyReLU has slope 0.01 and its logit dropout 0.3; the loss is BCE + MSE on VGG19 after
conv2_1's ReLU + pixel MSE with equal weights, without pretraining; Adam 1e-4, batch 64. Resizing is OpenCV's, with two
samples per axis.

The source uses one convolution, one BN and one PReLU for all five blocks and the trunk:
--config.generator.shared_blocks=True reproduces that. The source detaches the adversarial term by mistake, so the
generator trains without it; here the term has its gradient. Sigma is 4 as passed in the source; OpenCV's default would
be 1.1. The discriminator's dense layer has 16 x 16 x 512 inputs and 134 million parameters.

srgan-jax prepare celeb_a
python -m srgan_jax.main --config pytorch_blur --workdir runs/pytorch_blur
Needs VGG19's weights: srgan-jax port vgg19 --download torchvision (as the source; with Keras' weights the content term
is much larger relative to the others)
The source reports no scores. Not run in full here; 50 updates on 399 photographs at reduced width (4 blocks of 32, a
discriminator of 16, 96 px crops, batch 4, Keras' VGG19): loss 417, 266, 192 at updates 1, 25, 50.
"""

from ml_collections import ConfigDict

from srgan_jax import defaults


def get_config() -> ConfigDict:
    config = defaults.get_config()
    config.stage_names = ("gan",)
    config.data.dataset = "celeb_a"
    config.data.source = "stream"  # 200,000 images
    config.data.resize_px = 256
    config.data.crop_px = 256
    config.data.batch_size = 64
    config.degradation = ConfigDict({"name": "gaussian_blur", "size_px": 5, "sigma_px": 4.0, "antialias": False})

    config.generator.blocks = 5
    config.generator.use_bias = False
    config.discriminator.use_bias = False
    config.discriminator.negative_slope = 0.01
    config.discriminator.dropout = 0.3

    gan = config.stages.gan
    gan.schedule = "constant"
    gan.losses.pixel.weight = 1.0
    gan.losses.perceptual.weight = 1.0
    gan.losses.perceptual.options.taps = ("relu2_1",)
    gan.losses.adversarial.weight = 1.0
    return config
