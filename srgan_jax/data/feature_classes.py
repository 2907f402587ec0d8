"""`check_features`: a data set names Python classes, which tfds imports; only those of tfds itself are accepted."""

import functools
import json
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from srgan_jax.runtime.errors import UserError

FILE = "features.json"
CLASS_KEYS = ("type", "pythonClassName", "python_class_name")  # the last is another spelling that protobuf accepts
MAX_BYTES = 4 << 20  # of a file; those of the tfds catalogue have at most 0.1 MB
TRUST = "config.data.trust_builder=True or, for srgan-jax prepare, --trust-builder"


class DatasetError(UserError):
    """A data set is missing or can't be used; the message states what to do."""


def check_features(folder: Path) -> None:
    """Raises DatasetError if a `features.json` in `folder` or below is damaged, or names a class that isn't of tfds."""
    for file in sorted(folder.glob(f"**/{FILE}")):
        if file.stat().st_size > MAX_BYTES:
            raise DatasetError(f"{file}: expected at most {MAX_BYTES} bytes, found {file.stat().st_size}")
        try:
            named = _named_classes(json.loads(file.read_bytes()))
        except (ValueError, RecursionError) as error:
            raise DatasetError(
                f"{file} is damaged ({str(error).splitlines()[0]}); prepare the data set again"
            ) from None
        if foreign := sorted(set(named) - known_classes()):
            listed = ", ".join(f"{name!r:.100}" for name in foreign[:5])
            raise DatasetError(
                f"{file} names Python code that reading the data set would run: {listed}; expected only the features "
                f"of tfds. If you know and trust this code, set {TRUST}"
            )


def _named_classes(content: Any) -> list[str]:
    """Returns all names of classes in JSON, and in JSON that is a string in it."""
    found, waiting = [], [content]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            found += [item[key] for key in CLASS_KEYS if isinstance(item.get(key), str)]
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
        elif isinstance(item, str) and item.lstrip().startswith(("{", "[")):
            try:
                waiting.append(json.loads(item))
            except ValueError:  # a description
                continue
    return found


@functools.cache
def known_classes() -> frozenset[str]:
    """Returns the full names of tfds' features, earlier ones included."""
    classes = {item for item in vars(tfds.features).values() if isinstance(item, type)}
    classes = {item for item in classes if issubclass(item, tfds.features.FeatureConnector)}
    names = {f"{item.__module__}.{item.__name__}" for item in classes}
    return frozenset(names.union(*(item.ALIASES for item in classes)))
