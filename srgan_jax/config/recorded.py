"""`load_recorded`, the config that a run keeps in its folder, with which it resumes without `--config`."""

from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict

from srgan_jax.config.keys import as_dict, link_adversarial
from srgan_jax.config.recipes import load_config
from srgan_jax.config.renamed import translate_keys
from srgan_jax.config.resolve import resolve
from srgan_jax.runtime import storage
from srgan_jax.runtime.errors import MissingFileError, UserError
from srgan_jax.runtime.json_files import read_object
from srgan_jax.runtime.types import PyTree

EXAMPLE = "python -m srgan_jax.main --config srgan --workdir runs/srgan"
FILE, VERSIONS = "config.json", "versions.json"
ADVICE = "restore it from a backup, or give --config again after deleting it"


def config_and_folder(name: str | None, workdir: str | None) -> tuple[ConfigDict, Path]:
    """Returns the config of a command and the folder of its run.

    Args:
      name: value of `--config`; None for the config that `workdir` keeps.
      workdir: value of `--workdir`, local or of a bucket; None for `runs/NAME`.
    """
    if name:
        return load_config(name), storage.open_folder(workdir or Path("runs", Path(name).stem))
    if workdir:
        folder = storage.open_folder(workdir)
        return load_recorded(folder), folder
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
    config_file = str(read_versions(workdir).get("config_file", ""))
    if Path(config_file.partition(".py:")[0] + ".py" * (".py:" in config_file)).is_file():
        load_config(config_file)
    try:
        run = resolve(ConfigDict(translate_keys(read_config(workdir))))
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    except Exception as error:  # values of other types than a run writes
        raise UserError(f"{file} is damaged ({type(error).__name__}: {error}); {ADVICE}") from None
    config = ConfigDict(as_dict(run))
    link_adversarial(config)
    return config.lock()


def read_config(workdir: Path) -> dict[str, PyTree]:
    """Returns the config of a run as it was recorded, with the keys of the version that wrote it.

    Raises:
      UserError: the file is damaged, or lacks the stages or the generator.
    """
    content = read_object(workdir / FILE, ADVICE)
    names, generator = content.get("stage_names"), content.get("generator")
    complete = isinstance(names, list) and all(isinstance(name, str) for name in names)
    complete &= isinstance(generator, Mapping) and isinstance(generator.get("name"), str)
    if not complete or not all(isinstance(content.get(section, {}), Mapping) for section in ("data", "validation")):
        raise UserError(f"{workdir / FILE} is damaged: it lacks the stages, the generator or the data; {ADVICE}")
    return content


def read_versions(workdir: Path) -> dict[str, PyTree]:
    """Returns the versions that a run recorded; {} where it has not."""
    file = workdir / VERSIONS
    return read_object(file, "delete it") if file.is_file() else {}
