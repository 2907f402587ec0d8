"""Finetunes the shipped photo_x4 on a folder of your own images; ends with a table of scores before and after.

python -m srgan_jax.main --config finetune --workdir runs/mine --config.data.folder=FOLDER
The images (4 or more) are prepared in the folder of the run. Up to 8 of them, at most a quarter, are validation images:
never trained on, and scored before and after. For clean images: --config.init_from=compact_x4
--config.degradation.name=bicubic. The gain depends on the images; no scores on a public data set.
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
    pretrain.losses.pixel.term = "psnr"  # the last loss of the shipped weights
    pretrain.learning_rate = 2e-4
    pretrain.schedule = "cosine"
    pretrain.warmup_steps = 100
    config.validate_every_steps = 1_000
    config.save_every_steps = 1_000
    return config
