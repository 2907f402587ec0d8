#!/usr/bin/env bash
# Installs the test dependencies, then runs ruff, the type checker and all tests, in two processes. Other arguments are
# passed to pytest: bash scripts/test.sh -k resize. With -n 0 the tests run in one process, for a debugger.
#   --fast      skips the tests marked slow: those that start or kill processes, or take seconds
#   --absent    runs only the tests that compile for H100s and TPUs, which the machine need not have: in an environment of
#               their own (VENV, by default .venv-absent) with libtpu and the CUDA plugin, in one process, in a few minutes
#   --torch     first installs PyTorch (CPU) and spandrel, for the tests that compare with it
#   --browser   first installs Debian's Chromium, its driver and apngdis (as root), for the tests of HTML pages and of
#               animations, downloads ONNX Runtime Web into the user's cache folder, and installs gradio into .venv-gradio
#               (it asks for an older Pillow); what can't be downloaded is skipped
# Without PyTorch or Chromium those tests are skipped with a message.
# PYTHON and VENV select interpreter and environment, see scripts/setup.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" = --absent ]; then
  shift
  export VENV="${VENV:-.venv-absent}"
  # Without the packages that compile for them, the tests are skipped with the reason.
  bash scripts/setup.sh test,plan-tpu,plan-cuda || bash scripts/setup.sh test
  exec "$VENV/bin/python" -m pytest -n 0 -m absent "$@"
fi
bash scripts/setup.sh dev
bin="${VENV:-.venv}/bin"
tier=()
while true; do
  case "${1:-}" in
    --fast) tier=(-m "not slow and not absent") ;;
    --torch)
      "$bin/python" -c 'import torch' 2>/dev/null ||
        "$bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0
      # spandrel without what it requires: torchvision, which its architectures here don't use
      "$bin/python" -c 'import spandrel, einops' 2>/dev/null ||
        "$bin/python" -m pip install --quiet --disable-pip-version-check --no-deps spandrel==0.4.2 einops==0.8.1
      ;;
    --browser)
      command -v chromedriver >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium chromium-driver >/dev/null; }
      # apngdis decodes animations independently; without it that comparison is skipped
      command -v apngdis >/dev/null || { apt-get update -qq && apt-get install -y -qq apngdis >/dev/null; } || true
      "$bin/python" -c 'from srgan_jax.export.web.runtime import runtime_files; runtime_files(None, print)' || true
      .venv-gradio/bin/python -c 'import gradio' 2>/dev/null ||
        { PYTHON="$PWD/$bin/python" VENV=.venv-gradio bash scripts/setup.sh &&
          .venv-gradio/bin/python -m pip install --quiet --disable-pip-version-check gradio==6.31.0; } || true
      ;;
    *) break ;;
  esac
  shift
done
"$bin/ruff" check .
"$bin/ruff" format --check .
"$bin/basedpyright" --pythonpath "$bin/python"
"$bin/python" -m pytest -n 2 "${tier[@]}" "$@"
