#!/usr/bin/env bash
# From nothing to a trained generator: installs, trains a small SRResNet and then SRGAN on a few photographs,
# upscales one that was held out. Under 5 minutes on two CPU cores after the installation.
set -euo pipefail
cd "$(dirname "$0")/.."

bash scripts/setup.sh quickstart
.venv/bin/python scripts/quickstart.py --photos
.venv/bin/srgan-jax prepare data/quickstart_photos/train --out data/quickstart
.venv/bin/python -m srgan_jax.main --config configs/quickstart.py --workdir runs/quickstart
.venv/bin/python scripts/quickstart.py --report runs/quickstart
