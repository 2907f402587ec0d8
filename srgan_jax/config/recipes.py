"""Loads config files: recipes (the files in `configs/`) by name, and files of the user by path."""

import importlib.util
import inspect
import traceback
from pathlib import Path

from ml_collections import ConfigDict

from srgan_jax.runtime.errors import MissingFileError, UserError, lookup
from srgan_jax.runtime.user_code import execute

PACKAGE = "srgan_jax.recipes"  # `configs/` of the checkout, mapped by pyproject.toml; also in a wheel


def recipe_files() -> dict[str, Path]:
    """Returns the path of each recipe by name."""
    spec = importlib.util.find_spec(PACKAGE)
    # A checkout that is not installed, but only on the Python path, has no such package.
    folder = Path(spec.origin).parent if spec and spec.origin else Path(__file__).parents[2] / "configs"
    return {path.stem: path for path in sorted(folder.glob("[!_]*.py"))}


def find_config(name: str) -> Path:
    """Returns the config file for the value of `--config`.

    Args:
      name: a path if it contains `/` or ends in `.py`, else the name of a recipe.

    Raises:
      UserError: no such recipe (the message lists the recipes), or no such file.
    """
    if "/" not in name and not name.endswith(".py"):
        return lookup(recipe_files(), name, "recipe")
    if not Path(name).is_file():
        raise MissingFileError(
            f"no config file {name}; expected an existing path, or the name of a recipe: {', '.join(recipe_files())}"
        )
    return Path(name)


def load_config(name: str) -> ConfigDict:
    """Returns the locked config that `get_config()` of a config file returns.

    Args:
      name: name of a recipe, or path of a file; `FILE.py:TEXT` calls `get_config(TEXT)`.

    Raises:
      UserError: no such file, or the file raised an error; the message states the line.
    """
    name, _, argument = name.partition(":") if ".py:" in name else (name, "", None)
    path = find_config(name)
    try:
        module = execute(path)
        if not hasattr(module, "get_config"):
            raise UserError(f"{path}: expected a function get_config, found none")
        takes_text = argument is not None and inspect.signature(module.get_config).parameters
        config = module.get_config(argument) if takes_text else module.get_config()
    except UserError:
        raise
    except Exception as error:  # whatever the code of the file raises
        raise UserError(f"{_location(error, path)}: {_first_line(error)}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"{path}: get_config returned {type(config).__name__}, expected a ConfigDict")
    return config.lock()


def _location(error: Exception, path: Path) -> str:
    """Returns the path of the config file and the line in it that raised the error."""
    if isinstance(error, SyntaxError):
        return f"{path}, line {error.lineno}"
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == str(path)]
    return f"{path}, line {lines[-1]}" if lines else str(path)


def _first_line(error: Exception) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    text = " ".join(str(text).split())
    return text if isinstance(error, OSError) else f"{type(error).__name__}: {text}"
