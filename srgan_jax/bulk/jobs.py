"""Which files to upscale, where their results go, and how large they shall be."""

import collections
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from srgan_jax import images
from srgan_jax.runtime.errors import UserError

LOSSY = {".heic": ".jpg", ".heif": ".jpg"}  # read, never written
SUFFIXES = (*images.SUFFIXES, *LOSSY)
SizeOf = Callable[[int, int], tuple[int, int]]  # height and width before -> after


class Job(NamedTuple):
    """A file to be upscaled, and the file that shall hold the result."""

    source: Path
    target: Path


def find_jobs(inputs: Sequence[str | Path], out: str | Path | None, *, suffix: str = "", format: str = "") -> list[Job]:
    """The files named by `inputs`, those in folders included, and where their results go.

    Args:
      inputs: files and folders; the structure below a folder is kept.
      out: a folder, or a file where there is one input and it is a file; None puts results beside their inputs.
      suffix: put behind the name, before the dot.
      format: "png", ...; by default the format of the input where it can be written, else PNG (JPEG for HEIC).

    Raises:
      UserError: nothing to do, a format that can't be written, a result that would replace its input, or a file's name
        where a folder is wanted.
    """
    if any(not str(path) for path in inputs):
        raise UserError("an empty name among the inputs")
    if os.sep in suffix or os.sep in format:
        raise UserError(f"--suffix and --format are parts of a name, got {suffix or format!r}")
    paths, format = list(dict.fromkeys(map(Path, inputs))), format.removeprefix(".")
    if format:
        images.format_of(f"x.{format}")
    if out is None and any(os.path.isdir(path) for path in paths):
        raise UserError("say where the results of a folder go: -o FOLDER")
    if out and len(paths) == 1 and not os.path.isdir(paths[0]) and Path(out).suffix and not os.path.isdir(out):
        if suffix or format:
            raise UserError(f"{out} is a file's name: --suffix and --format go with a folder")
        images.format_of(out)
        jobs = [Job(paths[0], Path(out))]
    else:
        if out:
            _check_folder(Path(out))
        found = _found(paths, Path(out) if out else None, suffix)
        jobs = _told_apart([Job(source, _target(source, folder, suffix, format)) for source, folder in found])
    sources = {os.path.realpath(job.source) for job in jobs}
    for job in jobs:
        if os.path.realpath(job.target) in sources:
            raise UserError(f"the result would replace {job.target}; choose another folder, or add --suffix _x4")
    return jobs


def _check_folder(out: Path) -> None:
    """Refuses what can't become a folder, or was hardly meant to."""
    if os.path.exists(out) and not os.path.isdir(out):
        raise UserError(f"-o {out} is a file; expected a folder, or the name of a picture where there is one input")
    if out.suffix.lower() in SUFFIXES and not os.path.isdir(out):
        raise UserError(f"-o {out} is a picture's name; expected a folder, as there is more than one picture to write")


def _found(inputs: Sequence[Path], out: Path | None, suffix: str) -> list[tuple[Path, Path]]:
    """Every picture with the folder of its result; earlier results that lie among the inputs are left out."""
    found = []
    for path in inputs:
        if out is None or not os.path.isdir(path):  # of folders only with `out`
            found.append((path, out or path.parent))
            continue
        into = os.path.realpath(out)
        same = into == os.path.realpath(path)
        closed = (folder for folder in images.folders(path) if not os.access(folder, os.R_OK | os.X_OK))
        found += [(folder, out) for folder in closed]  # their turn to say so comes with the others
        for picture in images.find_images(path, suffixes=SUFFIXES):
            inside = into in map(str, Path(os.path.realpath(picture.parent), picture.name).parents)
            earlier = suffix and picture.stem.endswith(suffix) if same else inside
            if not earlier:
                found.append((picture, out / picture.relative_to(path).parent))
    if not found:
        raise UserError(f"no pictures in {', '.join(map(str, inputs))}")
    return found


def _told_apart(jobs: list[Job]) -> list[Job]:
    """`a.jpg` and `a.png` in one format become `a_jpg.png` and `a_png.png`; what is still alike is numbered.

    Names that differ by case alone count as alike: some file systems don't tell them apart.
    """
    counts = collections.Counter(_key(job.target) for job in jobs)
    apart, taken = [], set()
    for source, target in jobs:
        if counts[_key(target)] > 1:
            target = other_name(target, source)
        number = 2
        while _key(target) in taken:
            target = target.with_name(f"{target.stem}_{number}{target.suffix}")
            number += 1
        taken.add(_key(target))
        apart.append(Job(source, target))
    return apart


def _key(path: Path) -> str:
    return str(path).casefold()


def other_name(target: Path, source: Path) -> Path:
    """`target` with the format of its source in the name: `a_jpg.png`."""
    return target.with_name(f"{target.stem}_{source.suffix[1:]}{target.suffix}")


def _target(source: Path, folder: Path, suffix: str, format: str) -> Path:
    ending = f".{format.lower()}" if format else source.suffix.lower()
    ending = LOSSY.get(ending, ending)
    if ending not in images.FORMATS or (ending == ".gif" and not format and not _is_animated(source)):
        ending = ".png"
    return folder / f"{source.stem}{suffix}{ending}"


def _is_animated(path: Path) -> bool:
    try:
        with images.open_image(path) as image:
            return getattr(image, "n_frames", 1) > 1
    except images.ImageError:
        return False


def target_size(
    network_scale: int, *, scale: float | None = None, width: int | None = None, long_side: int | None = None
) -> SizeOf:
    """How large results shall be: `scale` times the input, or `width` or `long_side` pixels; else as the network gives.

    Raises:
      UserError: more than one of them, or one that is not positive.
    """
    given = {"--scale": scale, "--width": width, "--long-side": long_side}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) > 1:
        listed = ", ".join(f"{name} {value}" for name, value in given.items())
        raise UserError(f"expected one of --scale, --width and --long-side, got {listed}")
    for name, value in given.items():
        if not (value > 0 and math.isfinite(value)):
            raise UserError(f"{name} {value}: expected more than 0")

    def size_of(before_height: int, before_width: int) -> tuple[int, int]:
        ratio = scale or network_scale
        if width:
            ratio = width / before_width
        elif long_side:
            ratio = long_side / max(before_height, before_width)
        return max(1, round(before_height * ratio)), max(1, round(before_width * ratio))

    return size_of
