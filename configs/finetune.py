"""From the shipped photo_x4 on, with a folder of your own pictures; ends with a table of before and after.

python -m srgan_jax.main --config finetune --workdir runs/mine --config.data.folder=PICTURES
The pictures (4 or more) are prepared in the run's folder. Up to 8, a quarter at most, are held out, never trained on,
and judged before and after. For clean pictures: --config.init_from=compact_x4 --config.degradation.name=bicubic. The
gain depends on the pictures: not run on a set that others have.
"""

from ml_collections import ConfigDict

from srgan_jax import defaults


def get_config() -> ConfigDict:
    config = defaults.get_config()
    config.init_from = "photo_x4"
    config.generator_of_init_from = True
    config.degradation.name = "photo"
    config.validation.hold_out = 8
    config.validation.degraded = True
    config.data.batch_size = 8
    config.data.crop_px = 128

    config.stage_names = ("pretrain",)
    pretrain = config.stages.pretrain
    pretrain.total_steps = 5_000
    pretrain.losses.pixel.term = "psnr"  # what the shipped ones were last trained by
    pretrain.learning_rate = 2e-4
    pretrain.schedule = "cosine"
    pretrain.warmup_steps = 100
    config.validate_every_steps = 1_000
    config.save_every_steps = 1_000
    return config
