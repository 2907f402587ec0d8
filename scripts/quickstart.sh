#!/usr/bin/env bash
# Installs the package, trains a small SRResNet and then SRGAN on a few photographs, and upscales a validation
# photograph. It takes about 5 minutes on two CPU cores after the installation.
#   --no-train          trains nothing, but upscales a photograph with the shipped weights: under a minute after the installation
#   --no-train PHOTO    upscales your photograph; the result is written to the same folder
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
if [ $# -gt 0 ] && [ "$1" != "--no-train" ]; then
  echo "unknown argument $1; valid: --no-train [PHOTO]" >&2
  exit 2
fi

bash "$root/scripts/setup.sh" quickstart
if [ $# -gt 1 ]; then
  exec "$root/.venv/bin/srgan-jax" upscale "${@:2}"
fi
cd "$root"
if [ $# -gt 0 ]; then
  mkdir -p runs
  .venv/bin/srgan-jax quickstart --photos-only
  .venv/bin/srgan-jax upscale data/quickstart_photos/train/rocket.jpg -o runs/rocket_x4.jpg --overwrite
  echo "data/quickstart_photos/train/rocket.jpg -> runs/rocket_x4.jpg"
  exit 0
fi
.venv/bin/srgan-jax quickstart
