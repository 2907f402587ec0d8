"""Finding a generator's tensors in a checkpoint: wrappers around the state dict, and prefixes of its names."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

WRAPPERS = (  # keys of a checkpoint that hold a state dict, those that are preferred first: averaged weights
    "ema_state_dict", "params_ema", "params-ema", "model_ema", "net_g_ema", "generator_ema", "g_ema", "ema",
    "params", "state_dict", "model_state_dict", "model", "net", "netG", "net_g", "generator", "g_state_dict",
    "network", "weights",
)  # fmt: skip
DISCRIMINATOR_WRAPPERS = (  # the same for a discriminator
    "netD", "net_d", "discriminator", "d_state_dict", "params", "state_dict", "model_state_dict", "model", "net",
    "network", "weights",
)  # fmt: skip
PREFIX = re.compile(r"^(module\.|_orig_mod\.)+")  # of DataParallel, of torch.compile, and of averaged models
COUNTERS = re.compile(r"(^|\.)n_averaged$")
GENERATOR_PREFIXES = ("generator", "net_g", "netG", "netg", "model", "net", "network")
OTHER_PLAYERS = re.compile(r".*(disc|optim|sched|loss|perceptual|vgg|lpips)|net_?d|d_", re.IGNORECASE)
MAX_DEPTH = 4


def unwrap(content: Any, wrappers: Sequence[str] = WRAPPERS) -> dict[str, np.ndarray]:
    """Returns the tensors of a checkpoint by name: those of the innermost wrapper, the first in `wrappers` preferred.

    Prefixes of DataParallel, `torch.compile` and averaged models are removed, and what isn't a tensor is left out.
    {} where there are none.
    """
    for _ in range(MAX_DEPTH):
        if not isinstance(content, Mapping):
            return {}
        inner = [key for key in wrappers if _holds_tensors(content.get(key))]
        if not inner and not _arrays(content):
            inner = [key for key in content if _holds_tensors(content[key]) and not OTHER_PLAYERS.match(str(key))]
        if not inner:
            break
        content = content[inner[0]]
    return {PREFIX.sub("", name): value for name, value in _arrays(content).items() if not COUNTERS.search(name)}


def _arrays(content: Mapping[Any, Any]) -> dict[str, np.ndarray]:
    return {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, np.ndarray)}


def _holds_tensors(content: Any) -> bool:
    """Returns whether this is a dict with tensors, or one that holds such a dict, at most `MAX_DEPTH` levels down."""
    level = [content]
    for _ in range(MAX_DEPTH):
        level = [item for item in level if isinstance(item, Mapping)]
        if any(_arrays(item) for item in level):
            return True
        inner = [value for item in level for key, value in item.items() if not OTHER_PLAYERS.match(str(key))]
        level = list({id(value): value for value in inner}.values())  # each once: a file can refer to one many times
    return False


def candidates(tensors: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """Yields `tensors`, then those under each first part of the names ("model.", "net_g."), twice if need be.

    Averaged weights come first, then the usual names of generators, then others; a discriminator's are left out.
    """
    yield dict(tensors)
    firsts = list(dict.fromkeys(name.split(".", 1)[0] for name in tensors if "." in name))
    firsts = [first for first in firsts if not OTHER_PLAYERS.match(first)]
    firsts.sort(key=lambda first: ("ema" not in first.lower(), first not in GENERATOR_PREFIXES))
    for first in firsts:
        start = first + "."
        inner = {name[len(start) :]: value for name, value in tensors.items() if name.startswith(start)}
        yield inner
        seconds = {name.split(".", 1)[0] for name in inner}
        if len(seconds) == 1:
            yield {name.split(".", 1)[1]: value for name, value in inner.items() if "." in name}
