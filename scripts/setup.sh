#!/usr/bin/env bash
# Creates .venv in the checkout and installs srgan_jax with the given extras: bash scripts/setup.sh dev
# Does nothing if it is installed already. PYTHON=python3.12 selects another interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

extras="${1:-}"
stamp=".venv/installed-${extras:-plain}"
if [ -f "$stamp" ] && [ "$stamp" -nt pyproject.toml ]; then
  exit 0
fi

python="${PYTHON:-python3}"
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "srgan_jax needs Python 3.11 or newer, found $("$python" --version 2>&1); set PYTHON, for instance PYTHON=python3.12" >&2
  exit 1
fi
if [ ! -x .venv/bin/python ]; then
  "$python" -m venv .venv || { echo "can't create .venv; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
fi
echo "installing srgan_jax into .venv (a few minutes the first time)" >&2
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".${extras:+[$extras]}"
touch "$stamp"
