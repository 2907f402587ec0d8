#!/usr/bin/env bash
# Creates a virtual environment in the checkout and installs srgan_jax with the given extras: bash scripts/setup.sh dev
# Does nothing if srgan_jax is already installed there. Environment variables:
#   PYTHON=python3.12   the interpreter (default: the newest found, 3.14 down to 3.11, including pyenv's)
#   VENV=.venv-3.12     the folder of the virtual environment (default: .venv)
set -euo pipefail
cd "$(dirname "$0")/.."

extras="${1:-}"
venv="${VENV:-.venv}"
stamp="$venv/installed-${extras:-plain}"
editable='import importlib.util, os, sys; sys.exit(importlib.util.find_spec("srgan_jax").origin != os.path.abspath("srgan_jax/__init__.py"))'
if [ -f "$stamp" ] && [ "$stamp" -nt pyproject.toml ] && "$venv/bin/python" -I -c "$editable" 2>/dev/null; then
  exit 0  # installed, and not replaced by a copy (`pip install .`) since
fi

if [ ! -x "$venv/bin/python" ]; then
  if [ -n "${PYTHON:-}" ]; then
    python="$PYTHON"
    why="selected by PYTHON"
  else
    python="$(bash scripts/newest_python.sh)"
    why="the newest found: older ones get older versions of JAX, which are slower"
  fi
  found="$("$python" --version 2>&1)" || { echo "PYTHON=$python doesn't run: $found" >&2; exit 1; }
  if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "srgan_jax needs Python 3.11 or newer, found $found; set PYTHON=python3.12, for example" >&2
    exit 1
  fi
  echo "$found ($python), $why" >&2
  "$python" -m venv "$venv" || { echo "can't create $venv; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
fi
echo "installing srgan_jax into $venv (a few minutes the first time)" >&2
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".${extras:+[$extras]}"
touch "$stamp"
