"""The record of a run's provenance: config, package versions, git revision and command."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import jax

from srgan_jax.config.keys import as_dict
from srgan_jax.config.renamed import translate_keys
from srgan_jax.config.schema import RunConfig
from srgan_jax.runtime import atomic
from srgan_jax.runtime.versions import package_versions


def record_run(workdir: Path, run: RunConfig) -> list[str]:
    """Writes the config, the versions of packages, the git revision and the command to `workdir`, in process 0.

    Returns:
      A line for each key that differs from the earlier config in `workdir`; [] in other processes.
    """
    if jax.process_index():
        return []
    file = workdir / "config.json"
    now = json.loads(json.dumps(as_dict(run)))
    before = translate_keys(json.loads(file.read_text())) if file.exists() else now
    atomic.write_text(file, json.dumps(now, indent=1, sort_keys=True))
    command = " ".join(sys.argv)
    versions = package_versions() | {"python": platform.python_version(), "git": _git_revision(), "command": command}
    atomic.write_text(workdir / "versions.json", json.dumps(versions, indent=1))
    return _differences(before, now)


def _git_revision() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _differences(before: object, now: object, path: str = "config") -> list[str]:
    """Returns a line for each key whose values differ. Keys that only one of the configs has are ignored."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() & now.keys())
        return [line for key in keys for line in _differences(before[key], now[key], f"{path}.{key}")]
    return [] if before == now else [f"{path}: {before} before, {now} now"]
