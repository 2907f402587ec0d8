"""All keys of a training config: defaults (those of SRGAN, arXiv 1609.04802), meaning, unit and range.

The sections are frozen dataclasses. `keys.get_config` makes the editable config for config files from them. `resolve`
checks the edited config and returns it as a `RunConfig`, which the rest of the package uses. In the range of a number
`low` and `high` are included, `above` and `below` are excluded.
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

from srgan_jax.config.networks import Options, discriminator_fields, generator_fields

T = TypeVar("T")


def key(
    default: T,
    meaning: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> T:
    """Returns a field with its meaning and range: `low` and `high` are included, `above` and `below` excluded."""
    metadata = {"meaning": meaning, "low": low, "high": high, "above": above, "below": below}
    return dataclasses.field(default=default, metadata=metadata)


def options(meaning: str, **values: object) -> Options:
    """Returns a section whose keys depend on its `name` or `term`."""
    return dataclasses.field(default_factory=lambda: MappingProxyType(values), metadata={"meaning": meaning})


def section(factory: Callable[[], T], meaning: str = "") -> T:
    """Returns a section whose value `factory` makes."""
    return dataclasses.field(default_factory=factory, metadata={"meaning": meaning})


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """A named term of a loss; it is logged under its name."""

    term: str = key("", "a name in losses.TERMS; for a discriminator in losses.DISCRIMINATOR_TERMS")
    weight: float = key(0.0, "factor of the term, 0 or more; 0: the term is not computed", low=0)
    grad_ratio: float = key(
        0.0, "generator: adapt the weight so that the gradient on SR has this multiple of the other terms' norm", low=0
    )
    ramp_steps: int = key(0, "updates over which the weight rises linearly from 0; 0: constant weight", low=0)
    options: Options = options("keyword arguments of the term")


def loss(term: str, weight: float, **values: object) -> LossConfig:
    """Returns a term of a loss with its options."""
    return LossConfig(term=term, weight=weight, options=MappingProxyType(values))


def generator_losses(*, pixel: float, perceptual: float, adversarial: float | None = None) -> Mapping[str, LossConfig]:
    """Returns the terms of every stage, including those of weight 0, so that the command line can enable them."""
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

    step: str = key("pretrain", "the update: a name in training.steps.STEPS")
    total_steps: int = key(1_000_000, "number of updates", low=1)
    optimizer: str = key("adam", "for both networks: a name in training.optimizers.OPTIMIZERS: adam, muon")
    learning_rate: float = key(1e-4, "learning rate of the generator, which the schedule changes; 0 or more", low=0)
    schedule: str = key("constant", "a name in training.optimizers.SCHEDULES: constant, piecewise, cosine")
    drops: tuple[float, ...] = key((0.5,), "piecewise: fractions of total_steps, 0 to 1, where the learning rate drops")
    drop_factor: float = key(0.1, "piecewise: factor of the learning rate at each drop, 0 or more", low=0)
    warmup_steps: int = key(0, "updates of linear warmup of the learning rate from 0, at most total_steps", low=0)
    b1: float = key(0.9, "Adam: decay of the mean of gradients, at least 0 and below 1", low=0, below=1)
    b2: float = key(0.999, "Adam: decay of the mean of squared gradients, at least 0 and below 1", low=0, below=1)
    weight_decay: float = key(0.0, "decoupled decay of kernels, times the learning rate; usual with Muon: 0.1", low=0)
    clip_norm: float = key(0.0, "largest global norm of the gradients, larger ones are scaled; 0: no clipping", low=0)
    losses: Mapping[str, LossConfig] = section(
        lambda: generator_losses(pixel=1.0, perceptual=0.0),
        "terms of the generator's loss by name; each is logged under its name",
    )


@dataclasses.dataclass(frozen=True)
class GanStageConfig(StageConfig):
    """A stage with a discriminator."""

    step: str = key(
        "gan", "a name in training.steps.STEPS: gan, gan_generator_first, gan_several_updates, gan_two_steps, gan_keras"
    )
    total_steps: int = key(200_000, "number of updates", low=1)
    schedule: str = key("piecewise", "a name in training.optimizers.SCHEDULES: constant, piecewise, cosine")
    losses: Mapping[str, LossConfig] = section(
        lambda: generator_losses(pixel=0.0, perceptual=1.0, adversarial=1e-3),
        "terms of the generator's loss by name; each is logged under its name",
    )
    discriminator_losses: Mapping[str, LossConfig] = section(
        discriminator_losses, "terms of the discriminator's loss; d_loss.term follows losses.adversarial.term"
    )
    discriminator_learning_rate: float = key(1e-4, "learning rate of the discriminator, same schedule", low=0)
    discriminator_every: int = key(1, "D is updated once in this many updates; 1: at every update", low=1)
    discriminator_updates: int = key(
        1, "step gan_several_updates: updates of D per update of G, each on its own batch", low=1
    )
    fresh_batch: bool = key(False, "step gan_several_updates: the generator gets its own batch, not D's last one")
    historical_averaging: float = key(
        0.0,
        "weight of the squared distance to the mean of all past parameters (arXiv 1606.03498), for both networks",
        low=0,
    )
    balance_accuracy: float = key(
        0.98, "warn if D's accuracy exceeds this fraction at 10 consecutive log steps, 0 to 1", low=0, high=1
    )


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The training data."""

    dataset: str = key("data/train", "folder written by `srgan-jax prepare`, or name of a tfds data set")
    folder: str = key("", "folder of images that is first prepared into the run's folder; replaces dataset")
    data_dir: str = key("", 'folder in which tfds stores data sets by name; "": the default of tfds')
    trust_builder: bool = key(
        False, "run Python code that the data set names, for features that aren't of tfds; False: such a set is refused"
    )
    split: str = key("train", "name of a split of the data set")
    feature: str = key("", 'image feature with the HR images; "": hr, else image, else the only one')
    first_images: int = key(0, "train only on this number of images, the first ones of the data set; 0: all", low=0)
    source: str = key("memory", "a name in data.sources.SOURCES: memory, or stream for data sets larger than memory")
    channels: int = key(0, "bands of the images; 0: those of a prepared data set, else 3 (RGB)", low=0)
    bits: int = key(0, "bits per sample, 8 or 16; 0: those of a prepared data set, else 8", low=0, high=16)
    batch_size: int = key(16, "samples per update over all devices, a multiple of devices x micro_batches", low=1)
    crop_px: int = key(96, "side of the HR crops in pixels, a multiple of the scale", low=1)
    halo_px: int = key(
        0, "LR pixels around a crop that only the generator's input has; SR is cropped to crop_px", low=0
    )
    min_contrast: float = key(
        0.0, "mean absolute deviation, in levels of 255, below which a crop is drawn again, 5 times at most", low=0
    )
    augment: str = key(
        "flips_rotations", "random orientation: none, horizontal (left-right), flips, or flips_rotations (all eight)"
    )
    rescale: float = key(1.0, "HR is first shrunk by a random factor between this and 1; 1: never", above=0, high=1)
    lr_feature: str = key(
        "", 'image feature with the LR images of a paired data set; "": lr, if it has one; none: not used'
    )
    resize_px: int = key(
        0, "HR is first resized to squares of this side in pixels, a multiple of the scale; 0: no", low=0
    )
    resize_kernel: str = key(
        "bicubic", "for resize_px, a name in ops.resize_uint8.RESIZINGS: bicubic, bilinear, bilinear_opencv, nearest"
    )
    lr_from_original: bool = key(
        False, "LR is made by config.degradation from the original image, and not from HR; needs resize_px"
    )
    tile_px: int = key(512, "source memory: side of the tiles in pixels", low=1)
    device_share: float = key(
        0.5, "source memory: largest fraction of a device's memory for tiles; above it images stay on the host", low=0
    )
    threads: int = key(0, "source stream: number of threads that read and decode images; 0: one per core", low=0)

    @property
    def lr(self) -> str:
        """The feature with the LR images; "" if LR is made from HR."""
        return "" if self.lr_feature == "none" else self.lr_feature


@dataclasses.dataclass(frozen=True)
class ExtractorConfig:
    """The network of which the perceptual loss compares features; loaded only if a loss term needs it."""

    name: str = key("vgg19", "a name in models.EXTRACTORS: vgg19, resnet152v2")
    preprocessing: str = key(
        "",
        'input that the extractor gets, as in a source that forgot it: bgr_unit, signed; "": what its weights expect',
    )
    weights: str = key("", 'file written by `srgan-jax port`; "": NAME.safetensors in weights/ or $SRGAN_JAX_WEIGHTS')


@dataclasses.dataclass(frozen=True)
class DevicesConfig:
    """How updates are parallelised over devices."""

    mapping: str = key("jit", "jit: batches sharded over a mesh; pmap: one program per device")
    sync_bn: bool = key(True, "pmap: batch normalisation over all devices; False: over each device's samples")


@dataclasses.dataclass(frozen=True)
class ValidationConfig:
    """Validation during training."""

    folder: str = key("", 'folder of HR validation images, which are never trained on; "": none')
    hold_out: int = key(0, "images in a validation split of the data, in place of folder; at most a quarter", low=0)
    degraded: bool = key(False, "LR is made by config.degradation, deterministically; False: bicubic")
    metrics: tuple[str, ...] = key(
        ("psnr_y", "ssim_y", "psnr_rgb"),
        "names in evaluation.metrics.METRICS; in place of the default, gray images have psnr_y and ssim_y, and bands "
        "that are neither gray nor RGB psnr and ssim",
    )
    best: str = key("psnr_y", "one of metrics: the checkpoint with its best value is kept")


@dataclasses.dataclass(frozen=True)
class GuardConfig:
    """Limits for a run that diverges, checked at every logged update. Non-finite updates are never applied."""

    max_skips: int = key(
        10,
        "consecutive non-finite updates after which training rolls back to a checkpoint, with a new sample order",
        low=1,
    )
    d_wins_steps: int = key(
        0, "consecutive updates with 100 % accuracy of D after which training rolls back; 0: never", low=0
    )
    max_rollbacks: int = key(3, "number of rollbacks per stage; the run stops when another one is needed", low=0)


def _stages() -> Mapping[str, StageConfig]:
    return MappingProxyType({"pretrain": StageConfig(), "gan": GanStageConfig()})


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """A whole run. The defaults: SRResNet-MSE, then SRGAN-VGG54, with 16 blocks, 96 px crops and batches of 16."""

    seed: int = key(0, "seed of all random numbers")
    stage_names: tuple[str, ...] = key(
        ("pretrain", "gan"), "names in stages, run in this order; each starts from the averaged generator of the last"
    )
    init_from: str = key("", "initial generator: shipped name, file, run folder, hf://NAME; may have fewer blocks")
    generator_of_init_from: bool = key(False, "use the architecture of init_from instead of config.generator")
    discriminator_init_from: str = key(
        "", "initial discriminator, whose architecture replaces config.discriminator: .safetensors or .pth"
    )
    compute_dtype: str = key(
        "auto", "float32, bfloat16, or auto (bfloat16 on GPU and TPU, else float32); parameters stay float32"
    )
    ema_decay: float = key(0.999, "decay of the averaged generator per update, at least 0 and below 1", low=0, below=1)
    data: DataConfig = section(DataConfig)
    degradation: Options = options("a name in degradations.DEGRADATIONS, and its keyword arguments", name="bicubic")
    generator: Options = section(generator_fields, "a name in models.GENERATORS, and the fields of its class")
    discriminator: Options = section(
        discriminator_fields, "a name in models.DISCRIMINATORS, and the fields of its class"
    )
    extractor: ExtractorConfig = section(ExtractorConfig)
    stages: Mapping[str, StageConfig] = section(_stages, "stages by name; those in stage_names are run")
    devices: DevicesConfig = section(DevicesConfig)
    validation: ValidationConfig = section(ValidationConfig)
    guard: GuardConfig = section(GuardConfig)
    micro_batches: int = key(1, "gradient accumulation: number of microbatches into which a batch is split", low=1)
    remat: bool = key(False, "rematerialisation: recompute activations for the gradients instead of storing them")
    steps_per_call: int = key(1, "updates per call of the device; more than 1 needs tiles on the device", low=1)
    deterministic: bool = key(False, "GPU: identical bits in every run, by slower kernels (not measured)")
    compilation_cache: str = key(
        "auto", 'folder of the cache of compiled programs; "auto": the user\'s cache folder, "": no cache'
    )
    log_every_steps: int = key(100, "updates between two log lines", low=1)
    loggers: tuple[str, ...] = key(
        ("tensorboard",), "names in training.writers.WRITERS: tensorboard, wandb; metrics.jsonl is always written"
    )
    log_grad_share: bool = key(False, "also log the norm of each term's gradient with respect to SR")
    validate_every_steps: int = key(5_000, "updates between two validations, and between two written previews", low=1)
    show_every_steps: int = key(0, "updates between two previews in TensorBoard; 0: only when they are written", low=0)
    save_every_steps: int = key(5_000, "updates between two checkpoints", low=1)
    keep_checkpoints: int = key(3, "number of newest checkpoints to keep (3 or more), besides the best one", low=3)
    sample_pictures: int = key(4, "number of preview images", low=0)
