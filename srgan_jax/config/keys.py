"""Every key of a training config, with the paper's values (SRGAN, arXiv 1609.04802).

A config file calls `get_config()` and assigns what differs. Keys that don't exist here are refused.
"""

from ml_collections import ConfigDict


def _stage() -> ConfigDict:
    stage = ConfigDict()
    stage.total_steps = 1_000_000  # updates
    stage.optimizer = "adam"  # training.optimizers.OPTIMIZERS: adam, muon; of the discriminator too
    stage.learning_rate = 1e-4
    stage.schedule = "constant"  # training.optimizers.SCHEDULES: constant, piecewise, cosine
    stage.drops = (0.5,)  # piecewise: the learning rate falls after these shares of total_steps
    stage.drop_factor = 0.1  # to this share of it, each time
    stage.warmup_steps = 0  # cosine
    stage.b1 = 0.9  # Adam
    stage.b2 = 0.999
    stage.weight_decay = 0.0  # of kernels, times the learning rate; with Muon 0.1
    stage.clip_norm = 0.0  # gradients are scaled down to this global norm; 0: as they are

    # Content loss: losses.PIXEL for images on [-1, 1] and for features. A weight of 0 leaves the term out.
    stage.pixel = "mse"
    stage.pixel_weight = 1.0
    stage.perceptual = "mse"
    stage.perceptual_weight = 0.0  # features are scaled by extractor.FEATURE_SCALE of the weights' convention
    stage.perceptual_taps = ("relu5_4",)  # VGG54; "relu2_2" is VGG22; "conv5_4" is before the ReLU
    stage.perceptual_tap_weights = ()  # one for each of them; () for 1
    stage.tv_weight = 0.0
    return stage


def _gan_stage() -> ConfigDict:
    gan = _stage()
    gan.total_steps = 200_000
    gan.schedule = "piecewise"
    gan.pixel_weight = 0.0
    gan.perceptual_weight = 1.0
    gan.adversarial = "bce"  # losses.ADVERSARIAL
    gan.adversarial_weight = 1e-3
    gan.discriminator_learning_rate = 1e-4
    gan.generator_first = False  # update the generator before the discriminator
    gan.discriminator_updates = 1  # for each of the generator, each on a batch of its own
    gan.discriminator_every = 1  # the discriminator moves at every so many updates only
    gan.fresh_batch = False  # a batch of its own for the generator
    gan.label_smoothing = 0.0  # one-sided: 0.1 makes the target for real pictures 0.9
    gan.gradient_penalty = 0.0  # WGAN-GP: 10, adversarial "wgan", discriminator.norm "none"
    gan.historical_averaging = 0.0  # weight of the squared distance to the mean of all past parameters
    gan.balance_accuracy = 0.98  # tell when the discriminator judges more than this share rightly, ten times on end
    return gan


def _data() -> ConfigDict:
    data = ConfigDict()
    data.dataset = "data/train"  # folder written by `srgan-jax prepare`, or the name of a tfds data set
    data.folder = ""  # of pictures, prepared in the run's folder first; in place of dataset
    data.data_dir = ""  # where tfds keeps data sets by name; "" is its default
    data.split = "train"
    data.feature = ""  # image feature; "" takes hr, image, or the only one
    data.source = "memory"  # or "stream", for data sets larger than memory
    data.batch_size = 16  # over all devices
    data.crop_px = 96  # of HR
    data.augment = True  # the eight flips and rotations
    data.rescale = 1.0  # below 1: HR is first shrunk by a random factor from this to 1
    data.lr_feature = ""  # image feature with the LR pictures of a paired data set ("lr"); "": LR is made from HR
    data.resize_px = 0  # make every HR picture a square of this side first; 0: leave them as they are
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
    config.generator.activation = "prelu"  # layers.ACTIVATIONS
    config.generator.block_order = "norm_activation"  # or "activation_norm"
    config.generator.shared_blocks = False  # the same layers in all blocks
    config.generator.norm = "batch"  # or "none"
    config.generator.bn_momentum = 0.9
    config.generator.bn_epsilon = 1e-5
    config.generator.norm_upsampling = False
    config.generator.upsampling = "subpixel"  # or "nearest", which leaves no checkerboard
    config.generator.upsampling_width = 0  # channels of "nearest"; 0: as many as width
    config.generator.use_bias = True
    config.generator.initialization = "lecun"  # or "normal": deviation 0.02
    config.generator.output = "linear"  # or "tanh"
    config.generator.base = "none"  # or "bilinear", "bicubic": add to the interpolated input
    config.generator.input_range = "unit"  # what the layers see and give: layers.RANGES
    config.generator.output_range = "signed"

    config.discriminator = ConfigDict()  # models.DISCRIMINATORS; its crop is data.crop_px
    config.discriminator.name = "srgan"
    config.discriminator.width = 64
    config.discriminator.head = "flatten"  # or "positions", "patch": a logit for each position
    config.discriminator.dense = 1024
    config.discriminator.strides = "alternating"  # or "one"
    config.discriminator.block_order = "norm_activation"
    config.discriminator.negative_slope = 0.2
    config.discriminator.norm = "batch"  # or "none"
    config.discriminator.bn_momentum = 0.9
    config.discriminator.bn_epsilon = 1e-5
    config.discriminator.use_bias = True
    config.discriminator.spectral_norm = False
    config.discriminator.minibatch_kernels = 0  # minibatch discrimination: 16 or so
    config.discriminator.dropout = 0.0  # of the logits
    config.discriminator.initialization = "lecun"

    config.extractor = ConfigDict()  # models.EXTRACTORS; read where a stage has a perceptual weight
    config.extractor.name = "vgg19"  # or "resnet152v2"
    config.extractor.weights = (
        ""  # file written by `srgan-jax port`; "": NAME.safetensors in weights/ or $SRGAN_JAX_WEIGHTS
    )
    return config


def get_config() -> ConfigDict:
    """SRResNet-MSE, then SRGAN-VGG54: 16 blocks, 96 px crops, batches of 16."""
    config = ConfigDict()
    config.seed = 0
    config.stage_names = ("pretrain", "gan")  # run in this order; each starts from the average of the one before
    config.init_from = ""  # shipped name, .safetensors or run folder: the generator to begin with; fewer blocks do
    config.generator_of_init_from = False  # True: the architecture of those weights instead of config.generator
    config.compute_dtype = "auto"  # float32, bfloat16, or auto: bfloat16 on GPU and TPU; parameters stay float32
    config.ema_decay = 0.999

    config.data = _data()
    config.degradation = ConfigDict()  # degradations.DEGRADATIONS, and the keyword arguments of the function
    config.degradation.name = "bicubic"
    config.update(_networks())

    config.stages = ConfigDict()
    config.stages.pretrain = _stage()
    config.stages.gan = _gan_stage()

    config.devices = ConfigDict()
    config.devices.mapping = "jit"  # or "pmap"
    config.devices.sync_bn = True  # pmap: batch statistics over all devices, or of each replica

    config.validation = ConfigDict()
    config.validation.folder = ""  # HR pictures, never trained on; "" for no validation
    config.validation.hold_out = 0  # or so many pictures of the data (a quarter at most), never trained on then
    config.validation.degraded = False  # LR as config.degradation makes it, the same every time; False: bicubic
    config.validation.metrics = ("psnr_y", "ssim_y", "psnr_rgb")  # evaluation.metrics.METRICS
    config.validation.best = "psnr_y"  # the checkpoint with the highest is kept

    config.guard = ConfigDict()  # updates that aren't finite are never applied; looked at with every log line:
    config.guard.max_skips = 10  # after as many in a row, back to the last sound checkpoint, with other samples
    config.guard.d_wins_steps = 0  # the same after D judged everything rightly for as many in a row; 0: never
    config.guard.max_rollbacks = 3  # then the run stops

    config.micro_batches = 1  # gradient accumulation: parts of a batch, one after the other; one update as before
    config.remat = False  # compute activations a second time for the gradients instead of keeping them
    config.steps_per_call = 1  # updates in one call of the device; needs tiles that fit there
    config.deterministic = False  # GPU: the same bits every time, somewhat slower
    config.compilation_cache = "auto"  # compiled programs are kept in the user's cache folder, or this one; "": nowhere

    config.log_every_steps = 100
    config.validate_every_steps = 5_000  # scores and sample pictures
    config.show_every_steps = 0  # sample pictures to TensorBoard; 0: only when they are written
    config.save_every_steps = 5_000
    config.keep_checkpoints = 3  # newest, at least 3 as one may be damaged; the best besides
    config.sample_pictures = 4
    return config
