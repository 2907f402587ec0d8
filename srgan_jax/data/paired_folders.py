"""Which LR picture belongs to which HR picture, in a folder that has both."""

import collections
import re
from pathlib import Path

from srgan_jax import images
from srgan_jax.runtime.errors import UserError


def is_paired(folder: str | Path) -> bool:
    """Whether `folder` has the sub-folders `hr` and `lr`."""
    return Path(folder, "hr").is_dir() and Path(folder, "lr").is_dir()


def match_pairs(folder: str | Path) -> list[tuple[Path, Path]]:
    """The pictures of `folder/hr`, each with that of the same name in `folder/lr`; "0001x4" there goes with "0001".

    Raises:
      UserError: names without a partner, or sizes that are not one factor apart; the first ten are listed.
    """
    sides = {side: _by_name(Path(folder, side)) for side in ("hr", "lr")}
    sides["lr"] = {
        name if name in sides["hr"] else re.sub(r"x\d+$", "", name): path for name, path in sides["lr"].items()
    }
    alone = [f"{side}/{name} has no partner in {other}" for side, other in (("hr", "lr"), ("lr", "hr"))
             for name in sorted(sides[side].keys() - sides[other].keys())]  # fmt: skip
    if alone:
        raise UserError(f"{folder}: {len(alone)} pictures without a partner:\n  " + "\n  ".join(alone[:10]))
    found = [(sides["hr"][name], sides["lr"][name]) for name in sorted(sides["hr"])]
    _check_factor(folder, found)
    return found


def _by_name(folder: Path) -> dict[str, Path]:
    files = images.find_images(folder)
    named = {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}
    twice = [path.name for path in files if path not in named.values()]
    if twice:
        raise UserError(f"{folder}: pictures that differ in their suffix alone: {', '.join(twice[:10])}")
    return named


def _check_factor(folder: str | Path, found: list[tuple[Path, Path]]) -> None:
    sizes = []
    for hr, lr in found:
        try:
            sizes.append((hr, images.image_size(hr), images.image_size(lr)))
        except images.ImageError:
            continue  # left out when it is read, with the reason
    factors = collections.Counter(hr[0] // lr[0] for _, hr, lr in sizes)
    factor = factors.most_common(1)[0][0] if factors else 1
    wrong = [
        f"{path.name}: HR {hr[1]} x {hr[0]}, LR {lr[1]} x {lr[0]}"
        for path, hr, lr in sizes
        if hr != (lr[0] * factor, lr[1] * factor)
    ]
    if wrong:
        raise UserError(
            f"{folder}: {len(wrong)} of {len(found)} pairs are not of one scale (x{factor}, as most are):\n  "
            + "\n  ".join(wrong[:10])
        )
