"""`load_recorded`, the config that a run keeps in its folder, with which it resumes without `--config`."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from srgan_jax.config.keys import as_dict, link_adversarial
from srgan_jax.config.recipes import load_config
from srgan_jax.config.renamed import translate_keys
from srgan_jax.config.resolve import resolve
from srgan_jax.runtime.errors import MissingFileError, UserError

EXAMPLE = "python -m srgan_jax.main --config srgan --workdir runs/srgan"
FILE, VERSIONS = "config.json", "versions.json"


def config_and_folder(name: str | None, workdir: str | None) -> tuple[ConfigDict, Path]:
    """Returns the config of a command and the folder of its run.

    Args:
      name: value of `--config`; None for the config that `workdir` keeps.
      workdir: value of `--workdir`; None for `runs/NAME`.
    """
    if name:
        return load_config(name), Path(workdir or Path("runs", Path(name).stem))
    if workdir:
        return load_recorded(Path(workdir)), Path(workdir)
    raise UserError(f"expected --config, for instance: {EXAMPLE}; or --workdir alone, of a run that exists")


def load_recorded(workdir: Path) -> ConfigDict:
    """Returns the locked config of the run in `workdir`; executes its config file, which may add to the tables.

    Raises:
      UserError: `workdir` has no config.json, or its config isn't valid.
    """
    file = workdir / FILE
    if not file.is_file():
        raise MissingFileError(
            f"{workdir} holds no run: expected {FILE} in it; a new run needs --config, for instance --config srgan"
        )
    versions = json.loads((workdir / VERSIONS).read_text()) if (workdir / VERSIONS).is_file() else {}
    config_file = versions.get("config_file", "")
    if Path(config_file.partition(".py:")[0] + ".py" * (".py:" in config_file)).is_file():
        load_config(config_file)
    run = resolve(ConfigDict(translate_keys(json.loads(file.read_text()))))
    config = ConfigDict(as_dict(run))
    link_adversarial(config)
    return config.lock()
