"""The files to upscale, the paths of their results, and the sizes of their results."""

import collections
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from srgan_jax import images
from srgan_jax.runtime.errors import UserError

SizeOf = Callable[[int, int], tuple[int, int]]  # (height, width) of the input -> (height, width) of the result


class Job(NamedTuple):
    """The path of a file to upscale and the path of its result."""

    source: Path
    target: Path


def find_jobs(inputs: Sequence[str | Path], out: str | Path | None, *, suffix: str = "", format: str = "") -> list[Job]:
    """Returns the files to upscale, those in folders included, with the paths of their results.

    Args:
      inputs: files and folders; the structure of sub-folders is kept.
      out: a folder, or a file if the only input is a file; None writes each result next to its input.
      suffix: appended to the name of each result, before the file extension.
      format: file extension of the results ("png", ...); "" keeps the format of the input if it can be written, else
        one of the same content.

    Raises:
      UserError: no images, a format that can't be written, a result that would replace an input, or a file where a
        folder is expected.
    """
    if any(not str(path) for path in inputs):
        raise UserError("an input is an empty name; expected files or folders")
    if os.sep in suffix or os.sep in format:
        raise UserError(
            f"--suffix and --format: expected parts of a file name without {os.sep}, got {suffix or format!r}"
        )
    paths, format = list(dict.fromkeys(map(Path, inputs))), format.removeprefix(".")
    if format:
        images.format_of(f"x.{format}")
    if out is None and any(os.path.isdir(path) for path in paths):
        raise UserError("an input is a folder: expected -o FOLDER for the results")
    if out and len(paths) == 1 and not os.path.isdir(paths[0]) and Path(out).suffix and not os.path.isdir(out):
        if suffix or format:
            raise UserError(f"-o {out} is a file name; --suffix and --format are for results in a folder: -o FOLDER")
        images.format_of(out)
        jobs = [Job(paths[0], Path(out))]
    else:
        if out:
            _check_folder(Path(out))
        found = _find_images(paths, Path(out) if out else None, suffix)
        jobs = _make_distinct([Job(source, _target(source, folder, suffix, format)) for source, folder in found])
    sources = {os.path.realpath(job.source) for job in jobs}
    for job in jobs:
        if os.path.realpath(job.target) in sources:
            raise UserError(f"the result would replace {job.target}; choose another folder, or add --suffix _x4")
    return jobs


def _check_folder(out: Path) -> None:
    """Raises UserError if `out` is a file, or has the name of an image file."""
    if os.path.exists(out) and not os.path.isdir(out):
        raise UserError(f"-o {out} is a file; expected a folder, or the name of an image if the only input is a file")
    if out.suffix.lower() in images.SUFFIXES and not os.path.isdir(out):
        raise UserError(f"-o {out} is the name of an image; expected a folder, because there can be several results")


def _find_images(inputs: Sequence[Path], out: Path | None, suffix: str) -> list[tuple[Path, Path]]:
    """Returns each image with the folder of its result; leaves out results of earlier runs that lie in the inputs."""
    found = []
    for path in inputs:
        if out is None or not os.path.isdir(path):  # `out` is None only if all inputs are files
            found.append((path, out or path.parent))
            continue
        out_path = os.path.realpath(out)
        same = out_path == os.path.realpath(path)
        inaccessible = (folder for folder in images.folders(path) if not os.access(folder, os.R_OK | os.X_OK))
        found += [(folder, out) for folder in inaccessible]  # reading them fails later, with a report
        for picture in images.find_images(path):
            inside = out_path in map(str, Path(os.path.realpath(picture.parent), picture.name).parents)
            is_result = suffix and picture.stem.endswith(suffix) if same else inside
            if not is_result:
                found.append((picture, out / picture.relative_to(path).parent))
    if not found:
        raise UserError(f"no images in {', '.join(map(str, inputs))}")
    return found


def _make_distinct(jobs: list[Job]) -> list[Job]:
    """Returns jobs with distinct targets.

    If `a.jpg` and `a.png` are written in one format, the results are `a_jpg.png` and `a_png.png`; names that are still
    equal get a number. Names that differ only in case count as equal, as some file systems ignore case.
    """
    counts = collections.Counter(_casefolded(job.target) for job in jobs)
    distinct, used = [], set()
    for source, target in jobs:
        if counts[_casefolded(target)] > 1:
            target = name_with_format(target, source)
        number = 2
        while _casefolded(target) in used:
            target = target.with_name(f"{target.stem}_{number}{target.suffix}")
            number += 1
        used.add(_casefolded(target))
        distinct.append(Job(source, target))
    return distinct


def _casefolded(path: Path) -> str:
    return str(path).casefold()


def name_with_format(target: Path, source: Path) -> Path:
    """Returns `target` with the format of its source in the name: `a_jpg.png`."""
    return target.with_name(f"{target.stem}_{source.suffix[1:]}{target.suffix}")


def _target(source: Path, folder: Path, suffix: str, format: str) -> Path:
    extension = f".{format.lower()}" if format else images.result_suffix(source)
    if extension == ".gif" and not format and not _is_animated(source):
        extension = ".png"
    return folder / f"{source.stem}{suffix}{extension}"


def _is_animated(path: Path) -> bool:
    try:
        with images.open_image(path) as image:
            return getattr(image, "n_frames", 1) > 1
    except images.ImageError:
        return False


def target_size(
    network_scale: int, *, scale: float | None = None, width: int | None = None, long_side: int | None = None
) -> SizeOf:
    """Returns the function from the size of an input to the size of its result.

    Args:
      network_scale: factor used if none of the others is given.
      scale: factor.
      width: width of the results in pixels.
      long_side: longer side of the results in pixels.

    Raises:
      UserError: more than one of `scale`, `width` and `long_side` is given, or one that is not positive.
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
