"""Every key of a training config, with the paper's values (SRGAN, arXiv 1609.04802).

A config file calls `get_config()` and assigns what differs. Keys that don't exist here are refused.
"""

from ml_collections import ConfigDict


def _stage() -> ConfigDict:
    stage = ConfigDict()
    stage.total_steps = 1_000_000  # updates
    stage.learning_rate = 1e-4
    stage.schedule = "constant"  # steps.SCHEDULES: constant, piecewise, cosine
    stage.drops = (0.5,)  # piecewise: a tenth of the learning rate after these shares of total_steps
    stage.warmup_steps = 0  # cosine
    stage.b1 = 0.9  # Adam
    stage.b2 = 0.999

    # Content loss: losses.PIXEL for images on [-1, 1] and for features. A weight of 0 leaves the term out.
    stage.pixel = "mse"
    stage.pixel_weight = 1.0
    stage.perceptual = "mse"
    stage.perceptual_weight = 0.0  # features are scaled by extractor.FEATURE_SCALE of the weights' convention
    stage.perceptual_taps = ("relu5_4",)  # VGG54; "relu2_2" is VGG22; "conv5_4" is before the ReLU
    stage.tv_weight = 0.0
    return stage


def _data() -> ConfigDict:
    data = ConfigDict()
    data.dataset = "data/train"  # folder written by `srgan-jax prepare`, or the name of a tfds data set
    data.data_dir = ""  # where tfds keeps data sets by name; "" is its default
    data.split = "train"
    data.feature = ""  # image feature; "" takes hr, image, or the only one
    data.source = "memory"  # or "stream", for data sets larger than memory
    data.batch_size = 16  # over all devices
    data.crop_px = 96  # of HR
    data.augment = True  # the eight flips and rotations
    data.degradation = "bicubic"  # degradations.DEGRADATIONS
    data.tile_px = 512  # of the memory source
    data.device_share = 0.5  # of a device's memory that the tiles may take; else they stay on the host
    data.threads = 0  # of the stream source; 0: one for each core
    return data


def _networks() -> ConfigDict:
    config = ConfigDict()
    config.generator = ConfigDict()  # models.GENERATORS, and the fields of the class
    config.generator.name = "srresnet"
    config.generator.blocks = 16
    config.generator.width = 64
    config.generator.scale = 4
    config.generator.activation = "prelu"
    config.generator.norm = "batch"
    config.generator.bn_momentum = 0.9
    config.generator.output = "linear"
    config.generator.base = "none"

    config.discriminator = ConfigDict()  # models.DISCRIMINATORS; its crop is data.crop_px
    config.discriminator.name = "srgan"
    config.discriminator.width = 64
    config.discriminator.dense = 1024
    config.discriminator.bn_momentum = 0.9

    config.extractor = ConfigDict()  # models.EXTRACTORS; read where a stage has a perceptual weight
    config.extractor.name = "vgg19"
    config.extractor.weights = "weights/vgg19.safetensors"  # from scripts/port_vgg19.py
    return config


def get_config() -> ConfigDict:
    """SRResNet-MSE, then SRGAN-VGG54: 16 blocks, 96 px crops, batches of 16."""
    config = ConfigDict()
    config.seed = 0
    config.stage_names = ("pretrain", "gan")  # run in this order; each starts from the average of the one before
    config.init_from = ""  # .safetensors or run folder: weights of the generator for the first stage
    config.compute_dtype = "auto"  # float32, bfloat16, or auto: bfloat16 on GPU and TPU; parameters stay float32
    config.ema_decay = 0.999

    config.data = _data()
    config.update(_networks())

    config.stages = ConfigDict()
    config.stages.pretrain = _stage()
    config.stages.gan = gan = _stage()
    gan.total_steps = 200_000
    gan.schedule = "piecewise"
    gan.pixel_weight = 0.0
    gan.perceptual_weight = 1.0
    gan.adversarial = "bce"  # losses.ADVERSARIAL
    gan.adversarial_weight = 1e-3
    gan.discriminator_learning_rate = 1e-4

    config.devices = ConfigDict()
    config.devices.mapping = "jit"  # or "pmap"
    config.devices.sync_bn = True  # pmap: batch statistics over all devices, or of each replica

    config.validation = ConfigDict()
    config.validation.folder = ""  # HR pictures, never trained on; "" for no validation
    config.validation.metrics = ("psnr_y", "ssim_y", "psnr_rgb")  # metrics.METRICS
    config.validation.best = "psnr_y"  # the checkpoint with the highest is kept

    config.log_every_steps = 100
    config.validate_every_steps = 5_000  # scores and sample pictures
    config.save_every_steps = 5_000
    config.keep_checkpoints = 3  # newest; the best besides
    config.sample_pictures = 4
    return config
