"""Every key of a training config: its default (the paper's, SRGAN, arXiv 1609.04802), meaning, unit and range.

The sections are frozen dataclasses. `keys.get_config` makes the editable config of them that config files change, and
`resolve` turns that back into a checked `RunConfig`, the only form that the rest of the package sees.
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

T = TypeVar("T")
Options = Mapping[str, object]  # of a network, degradation or loss term: "name" or none, and keyword arguments


def key(
    default: T,
    meaning: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> T:
    """A field with its meaning and the range of its values: with `low` and `high`, without `above` and `below`."""
    metadata = {"meaning": meaning, "low": low, "high": high, "above": above, "below": below}
    return dataclasses.field(default=default, metadata=metadata)


def options(meaning: str, **values: object) -> Options:
    """A section whose keys depend on the name in it."""
    return dataclasses.field(default_factory=lambda: MappingProxyType(values), metadata={"meaning": meaning})


def section(factory: Callable[[], T], meaning: str = "") -> T:
    """A section with keys of its own."""
    return dataclasses.field(default_factory=factory, metadata={"meaning": meaning})


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """A named term of a loss; its name is the key under which it is logged."""

    term: str = key("", "a name in losses.TERMS, for a discriminator in losses.DISCRIMINATOR_TERMS")
    weight: float = key(0.0, "factor; 0 leaves the term out", low=0)
    ramp_steps: int = key(0, "updates over which the weight rises linearly from 0; 0: it is constant", low=0)
    options: Options = options("keyword arguments of the term")


def loss(term: str, weight: float, **values: object) -> LossConfig:
    """Returns a term of a loss with its options."""
    return LossConfig(term=term, weight=weight, options=MappingProxyType(values))


def generator_losses(*, pixel: float, perceptual: float, adversarial: float | None = None) -> Mapping[str, LossConfig]:
    """Returns the terms that every stage has, those of weight 0 too, so that flags can switch them on."""
    terms = {
        "pixel": loss("mse", pixel),
        "perceptual": loss("perceptual", perceptual, distance="mse", taps=("relu5_4",), tap_weights=()),
        "total_variation": loss("total_variation", 0.0),
    }
    if adversarial is not None:
        terms["adversarial"] = loss("bce", adversarial)
    return MappingProxyType(terms)


def discriminator_losses() -> Mapping[str, LossConfig]:
    """Returns the terms of a discriminator's loss."""
    terms = {"d_loss": loss("bce", 1.0, label_smoothing=0.0), "gradient_penalty": loss("gradient_penalty", 0.0)}
    return MappingProxyType(terms)


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """A stage without a discriminator: pretraining."""

    step: str = key("pretrain", "a name in training.steps.STEPS")
    total_steps: int = key(1_000_000, "updates", low=1)
    optimizer: str = key("adam", "a name in training.optimizers.OPTIMIZERS: adam, muon; of the discriminator too")
    learning_rate: float = key(1e-4, "of the generator", low=0)
    schedule: str = key("constant", "a name in training.optimizers.SCHEDULES: constant, piecewise, cosine")
    drops: tuple[float, ...] = key((0.5,), "piecewise: the learning rate falls after these fractions of total_steps")
    drop_factor: float = key(0.1, "piecewise: the learning rate is multiplied by it at each drop", low=0)
    warmup_steps: int = key(0, "cosine: updates over which the learning rate rises from 0", low=0)
    b1: float = key(0.9, "of Adam", low=0, below=1)
    b2: float = key(0.999, "of Adam", low=0, below=1)
    weight_decay: float = key(0.0, "of kernels, times the learning rate; with Muon 0.1", low=0)
    clip_norm: float = key(0.0, "gradients are scaled down to this global norm; 0: as they are", low=0)
    losses: Mapping[str, LossConfig] = section(
        lambda: generator_losses(pixel=1.0, perceptual=0.0),
        "terms of the generator's loss, by the key they are logged by",
    )


@dataclasses.dataclass(frozen=True)
class GanStageConfig(StageConfig):
    """A stage with a discriminator."""

    step: str = key("gan", "gan, gan_generator_first, gan_several_updates, gan_two_steps: training.steps.STEPS")
    total_steps: int = key(200_000, "updates", low=1)
    schedule: str = key("piecewise", "a name in training.optimizers.SCHEDULES: constant, piecewise, cosine")
    losses: Mapping[str, LossConfig] = section(
        lambda: generator_losses(pixel=0.0, perceptual=1.0, adversarial=1e-3),
        "terms of the generator's loss, by the key they are logged by",
    )
    discriminator_losses: Mapping[str, LossConfig] = section(
        discriminator_losses, "terms of the discriminator's loss; d_loss.term follows losses.adversarial.term"
    )
    discriminator_learning_rate: float = key(1e-4, "of the discriminator", low=0)
    discriminator_every: int = key(1, "the discriminator moves at every so many updates only", low=1)
    discriminator_updates: int = key(1, "step gan_several_updates: for each of the generator, a batch for each", low=1)
    fresh_batch: bool = key(False, "step gan_several_updates: a batch of its own for the generator")
    historical_averaging: float = key(
        0.0,
        "weight of the squared distance to the mean of all past parameters (arXiv 1606.03498), both networks",
        low=0,
    )
    balance_accuracy: float = key(0.98, "warn when D's accuracy is above it at 10 consecutive log steps", low=0, high=1)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where HR crops come from."""

    dataset: str = key("data/train", "folder written by `srgan-jax prepare`, or name of a tfds data set")
    folder: str = key("", "of images, prepared in the run's folder first; in place of dataset")
    data_dir: str = key("", 'where tfds keeps data sets by name; "": its default')
    split: str = key("train", "of the data set")
    feature: str = key("", 'image feature; "": hr, image, or the only one')
    source: str = key("memory", "a name in data.sources.SOURCES: memory, or stream for data sets larger than memory")
    batch_size: int = key(16, "samples of an update, over all devices", low=1)
    crop_px: int = key(96, "side of the HR crops, a multiple of the scale", low=1)
    augment: bool = key(True, "the eight flips and rotations")
    rescale: float = key(1.0, "below 1: HR is first shrunk by a random factor from this to 1", above=0, high=1)
    lr_feature: str = key("", 'image feature with the LR images of a paired data set ("lr"); "": LR is made from HR')
    resize_px: int = key(0, "every HR image becomes a square of this side first; 0: as they are", low=0)
    tile_px: int = key(512, "side of the tiles of the memory source", low=1)
    device_share: float = key(
        0.5, "fraction of a device's memory that the tiles may take; else they stay on the host", low=0
    )
    threads: int = key(0, "of the stream source; 0: one for each core", low=0)


@dataclasses.dataclass(frozen=True)
class ExtractorConfig:
    """The network whose features are compared; read where a term needs features."""

    name: str = key("vgg19", "a name in models.EXTRACTORS: vgg19, resnet152v2")
    weights: str = key("", 'written by `srgan-jax port`; "": NAME.safetensors in weights/ or $SRGAN_JAX_WEIGHTS')


@dataclasses.dataclass(frozen=True)
class DevicesConfig:
    """How an update is spread over devices."""

    mapping: str = key("jit", "jit: arrays over a mesh; pmap: one program a device")
    sync_bn: bool = key(True, "pmap: batch statistics over all devices, else of each replica")


@dataclasses.dataclass(frozen=True)
class ValidationConfig:
    """What is scored during training."""

    folder: str = key("", 'HR images, never trained on; "": no validation')
    hold_out: int = key(0, "or so many images of the data (a quarter at most), never trained on then", low=0)
    degraded: bool = key(False, "LR as config.degradation makes it, the same every time; False: bicubic")
    metrics: tuple[str, ...] = key(("psnr_y", "ssim_y", "psnr_rgb"), "names in evaluation.metrics.METRICS")
    best: str = key("psnr_y", "the checkpoint with the best value of this metric is kept")


@dataclasses.dataclass(frozen=True)
class GuardConfig:
    """Updates that aren't finite are never applied. Checked at every logged update."""

    max_skips: int = key(
        10, "after as many in a row, roll back to the last sound checkpoint, with other samples", low=1
    )
    d_wins_steps: int = key(0, "the same after D was right about everything for as many in a row; 0: never", low=0)
    max_rollbacks: int = key(3, "then the run stops", low=0)


NETWORK_MINIMA = {"blocks": 0, "width": 1, "scale": 1, "dense": 1}  # of networks whose class has such a field


def _generator() -> Options:
    return MappingProxyType({
        "name": "srresnet",
        "blocks": 16,
        "width": 64,
        "scale": 4,
        "activation": "prelu",  # layers.ACTIVATIONS
        "block_order": "norm_activation",  # or "activation_norm"
        "shared_blocks": False,  # the same layers in all blocks
        "norm": "batch",  # or "none"
        "bn_momentum": 0.9,
        "bn_epsilon": 1e-5,
        "norm_upsampling": False,
        "upsampling": "subpixel",  # or "nearest", which leaves no checkerboard
        "upsampling_width": 0,  # channels of "nearest"; 0: as many as width
        "use_bias": True,
        "initialization": "lecun",  # or "normal": std 0.02
        "output": "linear",  # or "tanh"
        "base": "none",  # or "bilinear", "bicubic": added to the interpolated input
        "input_range": "unit",  # what the layers see and give: layers.RANGES
        "output_range": "signed",
    })  # fmt: skip


def _discriminator() -> Options:
    return MappingProxyType({
        "name": "srgan",
        "width": 64,
        "head": "flatten",  # or "positions", "patch": a logit for each position
        "dense": 1024,
        "strides": "alternating",  # or "one"
        "block_order": "norm_activation",
        "negative_slope": 0.2,
        "norm": "batch",  # or "none"
        "bn_momentum": 0.9,
        "bn_epsilon": 1e-5,
        "use_bias": True,
        "spectral_norm": False,
        "minibatch_kernels": 0,  # minibatch discrimination: 16 or so
        "dropout": 0.0,  # of the logits
        "initialization": "lecun",
    })  # fmt: skip


def _stages() -> Mapping[str, StageConfig]:
    return MappingProxyType({"pretrain": StageConfig(), "gan": GanStageConfig()})


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """SRResNet-MSE, then SRGAN-VGG54: 16 blocks, 96 px crops, batches of 16."""

    seed: int = key(0, "of all that is random")
    stage_names: tuple[str, ...] = key(
        ("pretrain", "gan"), "run in this order; each starts from the average of the last"
    )
    init_from: str = key("", "shipped name, .safetensors or run folder: the generator to begin with; fewer blocks do")
    generator_of_init_from: bool = key(False, "the architecture of those weights instead of config.generator")
    compute_dtype: str = key("auto", "float32, bfloat16, or auto: bfloat16 on GPU and TPU; parameters stay float32")
    ema_decay: float = key(0.999, "of the averaged generator", low=0, below=1)
    data: DataConfig = section(DataConfig)
    degradation: Options = options("name in degradations.DEGRADATIONS, and its keyword arguments", name="bicubic")
    generator: Options = section(_generator, "name in models.GENERATORS, and the fields of its class")
    discriminator: Options = section(_discriminator, "name in models.DISCRIMINATORS, and the fields of its class")
    extractor: ExtractorConfig = section(ExtractorConfig)
    stages: Mapping[str, StageConfig] = section(_stages, "by name; those in stage_names run")
    devices: DevicesConfig = section(DevicesConfig)
    validation: ValidationConfig = section(ValidationConfig)
    guard: GuardConfig = section(GuardConfig)
    micro_batches: int = key(1, "gradient accumulation: microbatches of a batch, one after the other", low=1)
    remat: bool = key(False, "compute activations a second time for the gradients instead of keeping them")
    steps_per_call: int = key(1, "updates in one call of the device; needs tiles that fit there", low=1)
    deterministic: bool = key(False, "GPU: the same bits every time, somewhat slower")
    compilation_cache: str = key(
        "auto", 'compiled programs are kept in the user\'s cache folder, or this one; "": nowhere'
    )
    log_every_steps: int = key(100, "updates between two log lines", low=1)
    writers: tuple[str, ...] = key(("tensorboard",), "names in training.writers.WRITERS, besides metrics.jsonl")
    log_grad_share: bool = key(False, "log the norm of each term's gradient on SR, too")
    validate_every_steps: int = key(5_000, "updates between two validations and written previews", low=1)
    show_every_steps: int = key(0, "updates between two previews in TensorBoard; 0: only when they are written", low=0)
    save_every_steps: int = key(5_000, "updates between two checkpoints", low=1)
    keep_checkpoints: int = key(3, "the newest, at least 3 as one may be damaged; the best besides", low=3)
    sample_pictures: int = key(4, "previews", low=0)
