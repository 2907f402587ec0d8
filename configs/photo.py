"""The compact generator for photos: finetunes the result of compact.py on LR with blur, noise and JPEG artefacts.

python -m srgan_jax.main --config photo --workdir runs/photo --config.data.dataset=data/train
LR is made by a blur of up to 1.5 px, one of three resizing kernels, noise of up to 5 of 255 and, for three of four
images, JPEG of quality 40 to 95 with 4:2:0. Not from the paper. Starts from the shipped compact_x4, or
--config.init_from=runs/compact. Takes half an hour on two CPU cores with JAX_NUM_CPU_DEVICES=2 before the command.
Scores of photo_x4: RESULTS.md.
"""

from ml_collections import ConfigDict

from srgan_jax import defaults


def get_config() -> ConfigDict:
    config = defaults.get_config()
    config.init_from = "compact_x4"
    config.generator = ConfigDict({"name": "compact", "blocks": 6, "width": 40, "scale": 4})
    config.degradation.name = "photo"
    config.validation.degraded = True
    config.data.batch_size = 8
    config.data.crop_px = 128

    config.stage_names = ("pretrain", "psnr")
    pretrain = config.stages.pretrain
    pretrain.total_steps = 9_000
    pretrain.losses.pixel.term = "l1"
    pretrain.learning_rate = 5e-4
    pretrain.schedule = "cosine"
    pretrain.warmup_steps = 500

    config.stages.psnr = pretrain.copy_and_resolve_references()
    config.stages.psnr.total_steps = 12_000
    config.stages.psnr.losses.pixel.term = "psnr"
    return config
