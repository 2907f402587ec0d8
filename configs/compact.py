"""A compact generator for CPUs: an eighth of SRResNet's operations, L1 loss, Muon, cosine schedule, 128 px crops.

python -m srgan_jax.main --config configs/compact.py --workdir runs/compact --config.data.dataset=data/train
Not the paper's. About nine updates a second on two CPU cores: two hours. Scores of compact_x4: RESULTS.md.
"""

from ml_collections import ConfigDict

from srgan_jax import defaults


def get_config() -> ConfigDict:
    config = defaults.get_config()
    config.generator = ConfigDict({"name": "compact", "blocks": 6, "width": 48, "scale": 4})
    config.data.batch_size = 8
    config.data.crop_px = 128

    config.stage_names = ("pretrain",)
    pretrain = config.stages.pretrain
    pretrain.total_steps = 42_000
    pretrain.pixel = "l1"
    pretrain.optimizer = "muon"
    pretrain.learning_rate = 2e-3
    pretrain.weight_decay = 0.1
    pretrain.schedule = "cosine"
    pretrain.warmup_steps = 500
    return config
