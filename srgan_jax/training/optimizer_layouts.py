"""Names of optimiser states in checkpoints of earlier versions.

In earlier versions, gradient clipping was an element of optax' chain, and Adam without weight decay had one element
less than AdamW. Both changed the names of the moments: with clipping, `opt_state/0/mu` was `opt_state/1/0/mu`.
"""

import re
from collections.abc import Collection

LAYOUTS = {  # layout of an earlier version -> (pattern of the current name, earlier name)
    "unchanged": (),
    "adam": ((r"opt_state/2/", "opt_state/1/"),),
    "clipping, then adamw or muon": ((r"opt_state/", "opt_state/1/"),),
    "clipping, then adam": ((r"opt_state/0/", "opt_state/1/0/"), (r"opt_state/2/", "opt_state/1/1/")),
}


def stored_names(found: Collection[str], expected: Collection[str]) -> dict[str, str]:
    """Returns the name in a checkpoint for each current name that differs.

    Args:
      found: names of the leaves in a checkpoint.
      expected: current names.

    Returns:
      The names; {} if the checkpoint has the current names, or fits no layout.
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
