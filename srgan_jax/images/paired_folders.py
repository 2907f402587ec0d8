"""Paired folders: HR images in one sub-folder, LR images of the same names in another, or in several."""

import collections
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from srgan_jax.images.decode import image_size
from srgan_jax.images.errors import ImageError
from srgan_jax.images.find import find_images, folders
from srgan_jax.runtime.errors import MissingFileError, UserError

HR_NAME = re.compile(r"(^|[_\-. ])(hr|gt|hq)($|[_\-. ])", re.IGNORECASE)  # HR, GT, DIV2K_train_HR
LR_NAME = re.compile(r"(^|[_\-. ])(lr|lq)([_\-. ]?x\d+)?($|[_\-. ])", re.IGNORECASE)  # lq, LRx4, LR_bicubic
SCALE_FOLDER = re.compile(r"x\d+", re.IGNORECASE)
MARKS = re.compile(r"([_\-. ]?(hr|gt|hq|lr|lq|x\d+))+$", re.IGNORECASE)  # at the end of a name: 0001x4, baby_HR, a_LRx2


class Layout(NamedTuple):
    """The folders of the pairs.

    Attributes:
      root: the folder that contains the others.
      hr: folder of the HR images.
      lr: folders of the LR images; each HR image forms a pair with its LR image in each of them.
      template: name of an LR image, such as "{name}x4", where {name} is that of its HR image; "" for the same name.
        Marks at the end of either, such as x4, HR or _LR, may differ.
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
    check_template(template)
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


def check_template(template: str) -> None:
    """Raises UserError if the template of LR images' names lacks `{name}`, or names a folder."""
    if template and ("{name}" not in template or "/" in template):
        raise UserError(
            f"--lr-name {template}: expected the name of an LR image with {{name}} in it, such as {{name}}x4"
        )


def _layouts(root: Path, lr: list[Path], template: str) -> Iterator[Layout]:
    if not root.is_dir():
        raise MissingFileError(f"no such folder: {root}")
    if missing := [str(path) for path in lr if not path.is_dir()]:
        raise MissingFileError(f"--lr: no such folder: {', '.join(missing)}")
    for parent in [root, *(path for path in folders(root) if path != root and not _is_side(path))]:
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
    return [str(path) for path in folders(folder) if path != Path(folder) and LR_NAME.search(path.name)]


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


def _name_of_hr(name: str, hr: Mapping[str, Path], template: str) -> str:
    """Returns the name of the HR image that belongs to the LR image `name`; `name` itself if there is none."""
    if template:
        before, after = template.split("{name}", 1)
        parent, slash, stem = name.rpartition("/")
        fits = stem.startswith(before) and stem.endswith(after) and len(stem) > len(before) + len(after)
        name = f"{parent}{slash}{stem[len(before) : len(stem) - len(after)]}" if fits else name
    if name in hr:
        return name
    plain = MARKS.sub("", name)
    found = [candidate for candidate in hr if plain in (candidate, MARKS.sub("", candidate))]
    return found[0] if len(found) == 1 else name


def find_test_set(folder: str | Path, scale: int) -> tuple[Path, Path | None]:
    """Returns the folders of HR images and of LR images of a test set; None where it has no LR images.

    They are sub-folders of `folder` with names as for `find_layout`; without one of HR images, HR lies in `folder`.
    LR folders whose names contain another scale, such as `LRx2`, are left out; for scale 4, `LRx4` precedes all others.

    Raises:
      UserError: several folders could be meant; the message lists them.
    """
    root = Path(folder)
    inside = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    hr = [path for path in inside if HR_NAME.search(path.name) and not LR_NAME.search(path.name)]
    lr = [path for side in inside if LR_NAME.search(side.name) for path in _by_scale(side)]
    lr = [path for path in lr if _scale_of(path.relative_to(root)) in (None, scale)]
    lr = [path for path in lr if path.name.lower() == f"lrx{scale}"] or lr
    for what, found in (("HR", hr), ("LR", lr)):
        if len(found) > 1:
            listed = ", ".join(map(str, found))
            raise UserError(f"{folder} contains several folders of {what} images: {listed}; keep one of them there")
    return (hr[0] if hr else root), (lr[0] if lr else None)


def _scale_of(path: Path) -> int | None:
    """Returns the scale in the names of an LR folder, such as 4 of `LR_bicubic/X4`; None if there is none."""
    found = re.search(r"x(\d+)(?![a-z0-9])", path.as_posix(), re.IGNORECASE)
    return int(found[1]) if found else None


def lr_by_hr(hr: Sequence[str], lr: Sequence[str], template: str = "") -> dict[str, str]:
    """Returns for each name of an LR image that of its HR image, or the name itself if no HR image fits."""
    names = dict.fromkeys(hr, Path())
    return {name: _name_of_hr(name, names, template) for name in lr}


def _paths_by_name(folder: Path) -> dict[str, Path]:
    files = find_images(folder)
    named = {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}
    duplicates = [path.name for path in files if path not in named.values()]
    if duplicates:
        raise UserError(f"{folder}: images whose names differ in their suffix only: {', '.join(duplicates[:10])}")
    return named


def _check_factor(folder: str | Path, found: list[tuple[Path, Path]]) -> None:
    sizes = []
    for hr, lr in found:
        try:
            sizes.append((hr, image_size(hr), image_size(lr)))
        except ImageError:
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
