"""A PyTorch SRGAN on faces (CelebA): LR by Gaussian blur and bilinear resizing, five residual blocks without bias.

Unlike the paper: 1,500 faces, resized from 178 x 218 to 256 x 256 px; LR is blurred (5 x 5, sigma 4) in the original
size and resized to 64 px; no augmentation. Resizing is OpenCV's, with two samples per axis. Both networks are in
[0, 1]; no convolution has a bias; one slope per PReLU; PyTorch's initialisation; the discriminator's LeakyReLU has
slope 0.01 and its logit dropout 0.3; the loss is BCE + MSE on VGG19 after conv2_1's ReLU + pixel MSE on [0, 1] with
equal weights, without pretraining; VGG19 gets BGR in [0, 1], without its normalisation; Adam 1e-4, batch 64; 23,000
updates, 1,000 epochs of 23 batches.

Differences from the source that are known:
- The source uses one convolution and one BN for all five blocks and the trunk, and one slope for all PReLUs, in 363,009
  parameters: --config.generator.shared_blocks=True reproduces that. Here each layer has its own.
- The source detaches the adversarial term by mistake, so the generator trains without it; here the term has its
  gradient. --config.stages.gan.losses.adversarial.weight=0 reproduces the source.
- The 1,500 faces are the first ones of the data set in tfds' order, not in that of the files.
- OpenCV computes in fixed point: LR and HR differ from its results by one level at most.
Sigma is 4 as passed in the source; OpenCV's default would be 1.1. The discriminator's dense layer has 16 x 16 x 512
inputs and 134 million parameters.

srgan-jax prepare celeb_a
python -m srgan_jax.main --config pytorch_blur --workdir runs/pytorch_blur
Needs VGG19's weights: srgan-jax port vgg19 --download torchvision (as the source)
The source reports no scores. Not run in full here; 50 updates on 399 photographs at reduced width (4 blocks of 32, a
discriminator of 16, 96 px, batch 4, Keras' VGG19): loss 4.84, 6.42, 3.81 at updates 1, 25, 50, pixel term 0.327, 0.159,
0.085.
"""

from ml_collections import ConfigDict

from srgan_jax import defaults


def get_config() -> ConfigDict:
    config = defaults.get_config()
    config.stage_names = ("gan",)
    config.data.dataset = "celeb_a"
    config.data.first_images = 1_500
    config.data.source = "stream"
    config.data.resize_px = 256
    config.data.resize_kernel = "bilinear_opencv"
    config.data.lr_from_original = True
    config.data.crop_px = 256
    config.data.batch_size = 64
    config.data.augment = "none"
    config.degradation = ConfigDict({"name": "gaussian_blur", "size_px": 5, "sigma_px": 4.0, "antialias": False})

    generator = config.generator
    generator.blocks = 5
    generator.use_bias = False
    generator.activation = "prelu_shared"
    generator.output_range = "unit"
    generator.initialization = "pytorch"

    discriminator = config.discriminator
    discriminator.use_bias = False
    discriminator.negative_slope = 0.01
    discriminator.dropout = 0.3
    discriminator.input_range = "unit"
    discriminator.initialization = "pytorch"

    config.extractor.preprocessing = "bgr_unit"

    gan = config.stages.gan
    gan.total_steps = 23_000
    gan.schedule = "constant"
    gan.losses.pixel.weight = 0.25  # of the MSE on [-1, 1], which is 4 times that on [0, 1]
    gan.losses.perceptual.weight = 1.0
    gan.losses.perceptual.options.taps = ("relu2_1",)
    gan.losses.adversarial.weight = 1.0
    return config
