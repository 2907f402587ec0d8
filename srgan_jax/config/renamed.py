"""Config keys renamed since earlier versions: errors that state the new key, and translation of old `config.json`."""

from collections.abc import Mapping

from srgan_jax.runtime.errors import UserError

STAGE_KEYS = {  # old key -> new key, within config.stages.NAME
    "pixel": "losses.pixel.term",
    "pixel_weight": "losses.pixel.weight",
    "perceptual": "losses.perceptual.options.distance",
    "perceptual_weight": "losses.perceptual.weight",
    "perceptual_taps": "losses.perceptual.options.taps",
    "perceptual_tap_weights": "losses.perceptual.options.tap_weights",
    "tv_weight": "losses.total_variation.weight",
    "adversarial": "losses.adversarial.term",
    "adversarial_weight": "losses.adversarial.weight",
    "label_smoothing": "discriminator_losses.d_loss.options.label_smoothing",
    "gradient_penalty": "discriminator_losses.gradient_penalty.weight",
    "generator_first": "step",
}
RUN_KEYS = {"writers": "loggers"}  # within config
DATA_VALUES = {"augment": {True: "flips_rotations", False: "none"}}  # key of config.data: old value -> new value
STEP_OF_GENERATOR_FIRST = "gan_generator_first"


def check_not_renamed(stage: str, key: str) -> None:
    """Raises UserError if `key` of a stage was renamed; the message states the new key."""
    if now := STAGE_KEYS.get(key):
        value = f"={STEP_OF_GENERATOR_FIRST}" if key == "generator_first" else ""
        raise UserError(f"config.stages.{stage}.{key} was renamed; write config.stages.{stage}.{now}{value}")


def check_run_key_not_renamed(key: str) -> None:
    """Raises UserError if `key` of the config itself was renamed; the message states the new key."""
    if now := RUN_KEYS.get(key):
        raise UserError(f"config.{key} was renamed; write config.{now}")


def check_no_old_value(data: Mapping[str, object]) -> None:
    """Raises UserError if a key of config.data has a value of earlier versions; the message states the new one."""
    for key, values in DATA_VALUES.items():
        if isinstance(data.get(key), bool):
            names = f"{values[True]} in place of True, {values[False]} in place of False"
            raise UserError(f"config.data.{key}={data[key]}: expected a name: {names}; or another augmentation")


def translate_keys(recorded: Mapping[str, object]) -> dict[str, object]:
    """Returns the content of a `config.json`, written by this or an earlier version, with the current keys."""
    data, stages = recorded.get("data"), recorded.get("stages")
    now = {RUN_KEYS.get(key, key): value for key, value in recorded.items()}
    if isinstance(data, Mapping):
        found = {key: values[data[key]] for key, values in DATA_VALUES.items() if isinstance(data.get(key), bool)}
        now["data"] = {**data, **found}
    if not isinstance(stages, Mapping):
        return now
    return now | {"stages": {name: _stage(stage) for name, stage in stages.items()}}


def _stage(before: Mapping[str, object]) -> dict[str, object]:
    if "losses" in before or "step" in before:
        return dict(before)
    now: dict[str, object] = {"step": "gan" if "adversarial" in before else "pretrain"}
    for key, value in before.items():
        if key == "generator_first":
            now["step"] = STEP_OF_GENERATOR_FIRST if value else now["step"]
        else:
            _set(now, STAGE_KEYS.get(key, key), value)
    if now["step"] == "gan" and (before.get("discriminator_updates", 1) != 1 or before.get("fresh_batch")):
        now["step"] = "gan_several_updates"
    return now


def _set(tree: dict, path: str, value: object) -> None:
    *sections, field = path.split(".")
    for name in sections:
        tree = tree.setdefault(name, {})
    tree[field] = value
