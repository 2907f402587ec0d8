#!/usr/bin/env bash
# Installs what the tests need, then ruff and the whole suite. Arguments go to pytest: bash scripts/test.sh -k resize
#   --torch    first installs PyTorch (CPU), for the tests that compare with it; they are skipped without it
set -euo pipefail
cd "$(dirname "$0")/.."

bash scripts/setup.sh dev
if [ "${1:-}" = "--torch" ]; then
  shift
  .venv/bin/python -c 'import torch' 2>/dev/null ||
    .venv/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
fi
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/python -m pytest "$@"
