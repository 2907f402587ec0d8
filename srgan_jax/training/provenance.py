"""The record of how a run was made: config, package versions, git revision and command."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax

from srgan_jax.config import recorded
from srgan_jax.config.keys import as_dict
from srgan_jax.config.renamed import translate_keys
from srgan_jax.config.schema import RunConfig
from srgan_jax.runtime import atomic
from srgan_jax.runtime.versions import package_versions


class RunRecord(NamedTuple):
    """The record of a run, to be written.

    Attributes:
      changes: a line for each key that differs from the config of the earlier run in the folder.
      files: content of each file, by path; {} in other processes than the first.
    """

    changes: list[str]
    files: Mapping[Path, str]

    def write(self) -> None:
        """Writes the files. Called when all checks have passed, so that a refused run changes no file."""
        for path, content in self.files.items():
            atomic.write_text(path, content)


def describe_run(workdir: Path, run: RunConfig, config_file: str = "") -> RunRecord:
    """Returns the record of a run: its config, the versions of packages, the git revision and the command.

    Args:
      workdir: folder of the run.
      run: the config.
      config_file: value of `--config`; "" keeps that of the earlier run in `workdir`.
    """
    if jax.process_index():
        return RunRecord([], {})
    file, versions_file = workdir / recorded.FILE, workdir / recorded.VERSIONS
    now = json.loads(json.dumps(as_dict(run)))
    before = translate_keys(recorded.read_config(workdir)) if file.exists() else now
    previous = recorded.read_versions(workdir)
    versions = package_versions() | {
        "python": platform.python_version(),
        "git": _git_revision(),
        "command": " ".join(sys.argv),
        "config_file": _absolute(config_file) if config_file else previous.get("config_file", ""),
    }
    texts = {file: json.dumps(now, indent=1, sort_keys=True), versions_file: json.dumps(versions, indent=1)}
    return RunRecord(_differences(before, now), texts)


def _absolute(config_file: str) -> str:
    """Returns the absolute path of a config file; the name of a recipe stays as it is."""
    return os.path.abspath(config_file) if "/" in config_file or ".py" in config_file else config_file


def _git_revision() -> str:
    """Returns the revision of the repository that tracks this file; "none" for an installed package."""
    git = ["git", "-C", str(Path(__file__).parent)]
    describe = [*git, "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        # An installed package may be in a folder of another project's repository.
        subprocess.run([*git, "ls-files", "--error-unmatch", Path(__file__).name], capture_output=True, check=True)
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "none"


def _differences(before: object, now: object, path: str = "config") -> list[str]:
    """Returns a line for each key whose values differ. Keys that only one of the configs has are ignored."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() & now.keys())
        return [line for key in keys for line in _differences(before[key], now[key], f"{path}.{key}")]
    return [] if before == now else [f"{path}: {before} before, {now} now"]
