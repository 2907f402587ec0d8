"""A compact generator for CPUs, with a twelfth of SRResNet's operations, trained by L1, then by a PSNR loss.

python -m srgan_jax.main --config compact --workdir runs/compact --config.data.dataset=data/train
Not from the paper. On two CPU cores it makes 13 updates a second (two hours) with JAX_NUM_CPU_DEVICES=2 before the
command, and 6.5 (more than four hours) without. Scores of compact_x4: RESULTS.md.
"""

from ml_collections import ConfigDict

from srgan_jax import defaults


def get_config() -> ConfigDict:
    config = defaults.get_config()
    config.generator = ConfigDict({"name": "compact", "blocks": 6, "width": 40, "scale": 4})
    config.data.batch_size = 8
    config.data.crop_px = 128

    config.stage_names = ("pretrain", "psnr")
    pretrain = config.stages.pretrain
    pretrain.total_steps = 60_000
    pretrain.losses.pixel.term = "l1"
    pretrain.learning_rate = 1e-3
    pretrain.schedule = "cosine"
    pretrain.warmup_steps = 500

    config.stages.psnr = pretrain.copy_and_resolve_references()
    psnr = config.stages.psnr
    psnr.total_steps = 40_000
    psnr.losses.pixel.term = "psnr"  # with pretrain's learning rate, or from scratch, it is much worse than L1
    psnr.learning_rate = 5e-4
    return config
