#!/usr/bin/env bash
# Builds the site into docs/_build. A warning, such as a link to a page or a heading that doesn't exist, is an error.
# It needs the extra docs: pip install -e ".[docs]". Where no sphinx-build is found, scripts/setup.sh installs it.
# Environment variables: SPHINX names the sphinx-build to use, VENV the virtual environment (default: .venv).
set -euo pipefail
cd "$(dirname "$0")/.."

sphinx="${SPHINX:-${VENV:-.venv}/bin/sphinx-build}"
if [ ! -x "$sphinx" ] && ! sphinx="$(command -v sphinx-build)"; then
  bash scripts/setup.sh docs
  sphinx="${VENV:-.venv}/bin/sphinx-build"
fi
"$sphinx" -W --keep-going --quiet --fresh-env -b html docs docs/_build
echo "docs/_build/index.html"
