#!/usr/bin/env bash
# Installs what the tests need, then runs ruff, the type checker and the whole suite, in two processes. Other arguments go to pytest:
# bash scripts/test.sh -k resize; -n 0 runs in one process, for example to use a debugger.
#   --fast      leaves out the tests marked slow: those that start processes, kill them, or take seconds
#   --torch     first installs PyTorch (CPU), for the tests that compare with it
#   --browser   first installs Debian's Chromium and its driver (as root), for the test of the report page
# Without them those tests are skipped, with the reason. PYTHON and VENV choose interpreter and environment: see scripts/setup.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

bash scripts/setup.sh dev
bin="${VENV:-.venv}/bin"
tier=()
while true; do
  case "${1:-}" in
    --fast) tier=(-m "not slow") ;;
    --torch)
      "$bin/python" -c 'import torch' 2>/dev/null ||
        "$bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0
      ;;
    --browser)
      command -v chromedriver >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium chromium-driver >/dev/null; }
      ;;
    *) break ;;
  esac
  shift
done
"$bin/ruff" check .
"$bin/ruff" format --check .
"$bin/basedpyright"
"$bin/python" -m pytest -n 2 "${tier[@]}" "$@"
