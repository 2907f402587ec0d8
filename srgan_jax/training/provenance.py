"""What a run records of how it came about: config, versions, revision."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import jax

from srgan_jax.config.keys import as_dict
from srgan_jax.config.renamed import translated
from srgan_jax.config.schema import RunConfig
from srgan_jax.runtime import atomic
from srgan_jax.runtime.versions import package_versions


def record_run(workdir: Path, run: RunConfig) -> list[str]:
    """Saves the effective config, the versions of packages and the git revision beside the run.

    Returns:
      A line for each key that differs from the config that the run in `workdir` had before; none but in process 0.
    """
    if jax.process_index():
        return []
    file = workdir / "config.json"
    now = json.loads(json.dumps(as_dict(run)))
    before = translated(json.loads(file.read_text())) if file.exists() else now
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
    """A line for each key that both have with another value; keys that an earlier version lacked are no change."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() & now.keys())
        return [line for key in keys for line in _differences(before[key], now[key], f"{path}.{key}")]
    return [] if before == now else [f"{path}: {before} before, {now} now"]
