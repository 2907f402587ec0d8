"""Where earlier versions kept an optimiser's state: their checkpoints are read with the names of now.

Clipping had a place in the chain, and Adam without weight decay lacked that of AdamW. Both changed the names of all
moments: `opt_state/0/mu` of now was `opt_state/1/0/mu` with clipping.
"""

import re
from collections.abc import Collection

LAYOUTS = {  # of an optimiser's state: pattern of now -> the name in earlier versions
    "as it is": (),
    "adam": ((r"opt_state/2/", "opt_state/1/"),),
    "clipping, then adamw or muon": ((r"opt_state/", "opt_state/1/"),),
    "clipping, then adam": ((r"opt_state/0/", "opt_state/1/0/"), (r"opt_state/2/", "opt_state/1/1/")),
}


def stored_names(found: Collection[str], expected: Collection[str]) -> dict[str, str]:
    """Returns, for each of our names that a checkpoint calls otherwise, its name there.

    Args:
      found: names of the leaves in a checkpoint.
      expected: our names.

    Returns:
      {} where the checkpoint has our names, or fits no layout.
    """
    for rules in LAYOUTS.values():
        names = {name: _renamed(name, rules) for name in expected}
        if set(names.values()) == set(found):
            return {name: stored for name, stored in names.items() if stored != name}
    return {}


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, earlier in rules:
        if re.search(pattern, name):
            return re.sub(pattern, earlier, name, count=1)
    return name
