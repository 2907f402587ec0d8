"""Paired folders: the HR images in the sub-folder `hr`, the LR images of the same names in `lr`."""

import collections
import re
from pathlib import Path

from srgan_jax import images
from srgan_jax.runtime.errors import UserError


def is_paired(folder: str | Path) -> bool:
    """Returns whether `folder` has the sub-folders `hr` and `lr`."""
    return Path(folder, "hr").is_dir() and Path(folder, "lr").is_dir()


def match_pairs(folder: str | Path) -> list[tuple[Path, Path]]:
    """Returns the paths of all pairs, sorted by name. `lr/0001x4.png` also matches `hr/0001.png`.

    Raises:
      UserError: a name is in one sub-folder only, or the pairs don't all have the same scale; lists the first ten.
    """
    sides = {side: _paths_by_name(Path(folder, side)) for side in ("hr", "lr")}
    sides["lr"] = {
        name if name in sides["hr"] else re.sub(r"x\d+$", "", name): path for name, path in sides["lr"].items()
    }
    unpaired = [f"{side}/{name} is missing in {other}" for side, other in (("hr", "lr"), ("lr", "hr"))
             for name in sorted(sides[side].keys() - sides[other].keys())]  # fmt: skip
    if unpaired:
        raise UserError(
            f"{folder}: expected the same names in hr and lr, {len(unpaired)} images are in one of them only:\n  "
            + "\n  ".join(unpaired[:10])
        )
    found = [(sides["hr"][name], sides["lr"][name]) for name in sorted(sides["hr"])]
    _check_factor(folder, found)
    return found


def _paths_by_name(folder: Path) -> dict[str, Path]:
    files = images.find_images(folder)
    named = {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}
    duplicates = [path.name for path in files if path not in named.values()]
    if duplicates:
        raise UserError(f"{folder}: images whose names differ in their suffix only: {', '.join(duplicates[:10])}")
    return named


def _check_factor(folder: str | Path, found: list[tuple[Path, Path]]) -> None:
    sizes = []
    for hr, lr in found:
        try:
            sizes.append((hr, images.image_size(hr), images.image_size(lr)))
        except images.ImageError:
            continue  # skipped when it is read, and reported there
    factors = collections.Counter(hr[0] // lr[0] for _, hr, lr in sizes)
    factor = factors.most_common(1)[0][0] if factors else 1
    wrong = [
        f"{path.name}: HR {hr[1]} x {hr[0]}, LR {lr[1]} x {lr[0]}"
        for path, hr, lr in sizes
        if hr != (lr[0] * factor, lr[1] * factor)
    ]
    if wrong:
        raise UserError(
            f"{folder}: {len(wrong)} of {len(found)} pairs don't have the scale x{factor} that most have:\n  "
            + "\n  ".join(wrong[:10])
        )
