"""Loads Python files and modules of the user: config files, and modules given by `--import`."""

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

from srgan_jax.runtime.errors import UserError


def execute(path: Path) -> ModuleType:
    """Executes a Python file and returns it as a module, which is in `sys.modules` because dataclasses need that."""
    module = ModuleType(f"srgan_jax_file_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    return module


def import_module(name: str) -> None:
    """Imports a module (the current folder is searched too) or a `.py` file, which may add entries to the tables.

    Raises:
      UserError: there is no such module, or it raised an error.
    """
    try:
        if name.endswith(".py"):
            execute(Path(name))
            return
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        importlib.import_module(name)
    except Exception as error:  # the module's code may raise any exception
        raise UserError(f"--import {name}: {type(error).__name__}: {error}") from error
