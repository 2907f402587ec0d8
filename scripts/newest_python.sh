#!/usr/bin/env bash
# Prints the newest Python interpreter that srgan_jax supports: 3.14 down to 3.11, on PATH or installed by pyenv.
set -euo pipefail

pyenv="${PYENV_ROOT:-$HOME/.pyenv}/versions"
for minor in 14 13 12 11; do
  for candidate in "python3.$minor" "$pyenv/3.$minor".*/bin/python python3; do
    if [ "$("$candidate" -c 'import sys, venv; print(*sys.version_info[:2])' 2>/dev/null)" = "3 $minor" ]; then
      "$candidate" -c 'import sys; print(sys.executable)'
      exit 0
    fi
  done
done
echo "srgan_jax needs Python 3.11 to 3.14, found none on PATH or in $pyenv; set PYTHON to the path of an interpreter" >&2
exit 1
