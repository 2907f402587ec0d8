#!/usr/bin/env bash
# Builds the site into docs/_build. A warning, such as a link to a page or a heading that doesn't exist, is an error.
# It needs the extra docs: pip install -e ".[docs]". Where that isn't installed, .venv is made with it.
# SPHINX=FILE names another sphinx-build.
set -euo pipefail
cd "$(dirname "$0")/.."

sphinx="${SPHINX:-$(command -v sphinx-build || true)}"
if [ -z "$sphinx" ]; then
  bash scripts/setup.sh docs
  sphinx=.venv/bin/sphinx-build
fi
"$sphinx" -W --keep-going --quiet --fresh-env -b html docs docs/_build
echo "docs/_build/index.html"
