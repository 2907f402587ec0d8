"""Counts and intervals of a config, checked before anything runs."""

from typing import Any

from srgan_jax.runtime.errors import UserError

try:
    import fcntl
except ImportError:  # Windows, where nothing trains: see data.builder
    fcntl = None


MIN_CHECKPOINTS = 3
COUNTS = {  # keys of the config, and the least that each can be
    "data.batch_size": 1,
    "data.tile_px": 1,
    "data.resize_px": 0,
    "data.threads": 0,
    "generator.scale": 1,
    "generator.width": 1,
    "generator.blocks": 0,
    "discriminator.width": 1,
    "validation.hold_out": 0,
    "guard.max_skips": 1,
    "guard.d_wins_steps": 0,
    "guard.max_rollbacks": 0,
    "steps_per_call": 1,
    "log_every_steps": 1,
    "validate_every_steps": 1,
    "save_every_steps": 1,
    "show_every_steps": 0,
    "sample_pictures": 0,
}
STAGE_COUNTS = {"total_steps": 1, "warmup_steps": 0}


def check_counts(config: Any) -> None:
    """Raises UserError where the config has less of something than there can be."""
    for key, least in COUNTS.items():
        section, _, field = key.rpartition(".")
        _check_count(key, (config[section] if section else config).get(field, least), least)


def _check_count(key: str, value: int, least: int) -> None:
    if value < least:
        raise UserError(f"config.{key}={value}: expected {least} or more")


def check_intervals(config: Any) -> None:
    """Raises UserError where steps_per_call doesn't divide what happens between calls, or too little is kept."""
    intervals = {name: config[name] for name in ("log_every_steps", "validate_every_steps", "save_every_steps")}
    for name in config.stage_names:
        for field, least in STAGE_COUNTS.items():
            _check_count(f"stages.{name}.{field}", config.stages[name][field], least)
        intervals[f"stages.{name}.total_steps"] = config.stages[name].total_steps
    count = config.steps_per_call
    for key, value in intervals.items():
        if value % count:
            nearest = max(1, round(value / count)) * count
            raise UserError(f"config.{key}={value} is no multiple of config.steps_per_call={count}; {nearest} is")
    if config.keep_checkpoints < MIN_CHECKPOINTS:
        raise UserError(
            f"config.keep_checkpoints={config.keep_checkpoints}: expected {MIN_CHECKPOINTS} or more, as the newest may "
            "be damaged or unfinished"
        )
