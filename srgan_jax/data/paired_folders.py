"""Paired folders: HR images in one sub-folder, LR images of the same names in another, or in several."""

import collections
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from srgan_jax import images
from srgan_jax.runtime.errors import MissingFileError, UserError

HR_NAME = re.compile(r"(^|[_\-. ])(hr|gt|hq)($|[_\-. ])", re.IGNORECASE)  # HR, GT, DIV2K_train_HR
LR_NAME = re.compile(r"(^|[_\-. ])(lr|lq)([_\-. ]?x\d+)?($|[_\-. ])", re.IGNORECASE)  # lq, LRx4, LR_bicubic
SCALE_FOLDER = re.compile(r"x\d+", re.IGNORECASE)
SCALE_MARK = r"x\d+$"  # at the end of an LR image's name, as in DIV2K


class Layout(NamedTuple):
    """The folders of the pairs.

    Attributes:
      root: the folder that contains the others.
      hr: folder of the HR images.
      lr: folders of the LR images; each HR image forms a pair with its LR image in each of them.
      template: name of an LR image, such as "{name}x4", where {name} is that of its HR image; "" for the same name,
        with or without a scale such as x4 at its end.
    """

    root: Path
    hr: Path
    lr: tuple[Path, ...]
    template: str = ""

    def line(self) -> str:
        """Returns what was recognised, for the user."""
        lr = ", ".join(path.relative_to(self.root).as_posix() for path in self.lr)
        return f"pairs: HR images in {self.hr.relative_to(self.root).as_posix()}, LR images in {lr}"


def find_layout(folder: str | Path, lr: Sequence[str] = (), template: str = "") -> Layout | None:
    """Returns the folders of the pairs in `folder` or in one of its sub-folders; None if there are no pairs.

    Upper and lower case are equal: `HR` and `LR`, `gt` and `lq`, `train/hr` and `train/lr`, `HR` and `LRx4`.

    Args:
      folder: the folder of an image set.
      lr: the folders of LR images, relative to `folder`; () for those that are recognised by their names.
      template: see `Layout`.

    Raises:
      UserError: several folders could be meant, `lr` don't exist, or the template is wrong. The message lists them.
    """
    root = Path(folder)
    if template and ("{name}" not in template or "/" in template):
        raise UserError(
            f"--lr-name {template}: expected the name of an LR image with {{name}} in it, such as {{name}}x4"
        )
    found = list(_layouts(root, [root / name for name in lr], template))
    if not found and (lr or template):
        raise UserError(f"{folder}: no folder of HR images, recognised by its name: hr or gt, in any case")
    if len(found) > 1:
        listed = ", ".join(str(layout.hr.parent) for layout in found)
        raise UserError(f"{folder} contains several paired sets; prepare one of them: {listed}")
    if found and len(found[0].lr) > 1 and not lr:
        listed = " ".join(path.relative_to(root).as_posix() for path in found[0].lr)
        raise UserError(f"{folder} contains several folders of LR images; choose with --lr one or more of: {listed}")
    return found[0] if found else None


def _layouts(root: Path, lr: list[Path], template: str) -> Iterator[Layout]:
    if not root.is_dir():
        raise MissingFileError(f"no such folder: {root}")
    if missing := [str(path) for path in lr if not path.is_dir()]:
        raise MissingFileError(f"--lr: no such folder: {', '.join(missing)}")
    for parent in [root, *(path for path in images.folders(root) if path != root and not _is_side(path))]:
        inside = [path for path in sorted(parent.iterdir()) if path.is_dir() and not path.name.startswith(".")]
        hr = [path for path in inside if HR_NAME.search(path.name) and not LR_NAME.search(path.name)]
        found = lr or [folder for path in inside if LR_NAME.search(path.name) for folder in _by_scale(path)]
        if len(hr) > 1 and found:
            listed = ", ".join(map(str, hr))
            raise UserError(f"{parent} contains several folders of HR images: {listed}; keep one of them there")
        if hr and found:
            yield Layout(root, hr[0], tuple(found), template)


def _by_scale(folder: Path) -> list[Path]:
    """Returns the sub-folders for the scales, as in `LR_bicubic/X4`; the folder itself if it has none."""
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and SCALE_FOLDER.fullmatch(path.name)]
    return inside or [folder]


def _is_side(path: Path) -> bool:
    return bool(HR_NAME.search(path.name) or LR_NAME.search(path.name))


def unpaired_lr(folder: str | Path) -> list[str]:
    """Returns the sub-folders whose names are those of LR images, for a warning where there are no pairs."""
    return [str(path) for path in images.folders(folder) if path != Path(folder) and LR_NAME.search(path.name)]


def match_pairs(layout: Layout) -> list[tuple[Path, Path]]:
    """Returns the paths of all pairs, sorted by name.

    Raises:
      UserError: an image has no partner, or the pairs don't all have the same scale; lists the first ten.
    """
    hr = _paths_by_name(layout.hr)
    found, unpaired = [], []
    for folder in layout.lr:
        lr = {_name_of_hr(name, hr, layout.template): path for name, path in _paths_by_name(folder).items()}
        sides = ((layout.hr, hr, folder, lr), (folder, lr, layout.hr, hr))
        unpaired += [
            f"{have.relative_to(layout.root)}/{name} is missing in {lack.relative_to(layout.root)}"
            for have, ours, lack, theirs in sides
            for name in sorted(ours.keys() - theirs.keys())
        ]
        found += [(hr[name], lr[name]) for name in sorted(hr.keys() & lr.keys())]
    if unpaired:
        raise UserError(
            f"{layout.root}: expected the same names in HR and LR, or --lr-name, such as {{name}}x4; "
            f"{len(unpaired)} images are in one of them only:\n  " + "\n  ".join(unpaired[:10])
        )
    _check_factor(layout.root, found)
    return found


def _name_of_hr(name: str, hr: dict[str, Path], template: str) -> str:
    """Returns the name of the HR image that belongs to the LR image `name`; `name` itself if there is none."""
    if template:
        before, after = template.split("{name}", 1)
        parent, slash, stem = name.rpartition("/")
        fits = stem.startswith(before) and stem.endswith(after) and len(stem) > len(before) + len(after)
        return f"{parent}{slash}{stem[len(before) : len(stem) - len(after)]}" if fits else name
    return name if name in hr else re.sub(SCALE_MARK, "", name)


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
