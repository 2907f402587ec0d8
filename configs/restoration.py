"""Restoration at the same size with a GAN, from pairs of low-quality and high-quality images; after a Keras program.

Unlike the paper: whole images, resized to 256 px by nearest neighbour, in and out, LR and HR in [-1, 1], in pairs; no
augmentation; a generator that downsamples and upsamples twice, with Keras' padding at stride 2 and its initialisation;
a discriminator without strides with a logit for each pixel (conv, LeakyReLU, BN; dense layers at each position). Its
loss is least squares on its probabilities, in two steps of Adam, on real images and on images that the generator makes
with its running statistics; the generator's, on a batch of its own, is BCE x 1e-3 + MSE on ResNet152V2's
conv2_block1_1_relu. Adam 2e-4 with b1 0.5, batch 4, 30,000 updates without pretraining. Metrics, and a preview in
TensorBoard, every 100 updates; a preview file every 1,000; weights every 2,500.

Differences from the source that are known:
- Convolutions directly before BN have no bias, which has no effect there: 17 x 64 fewer parameters.
  Weights of the source fit after subtracting these biases from BN's running means.
- Odd sides are extended by one row or column before a stride of 2; Keras then pads by the same number at both ends.
- Adam's epsilon is 1e-8, Keras' 1e-7; the discriminator's loss is half of Keras', which doesn't change Adam.
- In the generator's update the discriminator normalises by its batch; recent versions of Keras use its running
  statistics there, as it is frozen.

srgan-jax prepare FOLDER --out data/pairs        FOLDER has hr/ and lr/ with images of the same names and sizes
python -m srgan_jax.main --config restoration --workdir runs/restoration
Needs ResNet152V2's weights: srgan-jax port resnet152v2 FILE, see docs/weights.md
The source reports no scores. Not run in full here; 50 updates on 399 blurred JPEGs at reduced width (4 blocks of 32,
64 px, random weights in ResNet152V2): loss 0.072, 0.031, 0.029 at updates 1, 25, 50.
"""

from ml_collections import ConfigDict

from srgan_jax import defaults


def get_config() -> ConfigDict:
    config = defaults.get_config()
    config.stage_names = ("gan",)
    config.data.dataset = "data/pairs"
    config.data.lr_feature = "lr"
    config.data.resize_px = 256
    config.data.resize_kernel = "nearest"
    config.data.crop_px = 256
    config.data.batch_size = 4
    config.data.augment = "none"
    config.generator = ConfigDict({
        "name": "restoration", "blocks": 16, "width": 64, "scale": 1, "upsampling_width": 256, "padding": "keras",
        "initialization": "keras",
    })  # fmt: skip

    discriminator = config.discriminator
    discriminator.head = "positions"
    discriminator.strides = "one"
    discriminator.block_order = "activation_norm"
    discriminator.bn_momentum = 0.8
    discriminator.bn_epsilon = 1e-3
    discriminator.initialization = "keras"

    config.extractor.name = "resnet152v2"

    gan = config.stages.gan
    gan.total_steps = 30_000
    gan.schedule = "constant"
    gan.losses.perceptual.options.taps = ("conv2_block1_1_relu",)
    gan.losses.adversarial.term = "probability_lsgan"
    gan.step = "gan_keras"
    gan.learning_rate = gan.discriminator_learning_rate = 2e-4
    gan.b1 = 0.5

    config.validate_every_steps = 1_000
    config.show_every_steps = 100
    config.save_every_steps = 2_500
    return config
