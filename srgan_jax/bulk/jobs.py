"""The files to upscale and the paths of their results."""

import collections
import glob
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from srgan_jax import images
from srgan_jax.bulk import records
from srgan_jax.runtime import atomic
from srgan_jax.runtime.errors import MissingFileError, UserError


class Job(NamedTuple):
    """The path of a file to upscale and the path of its result."""

    source: Path
    target: Path
    named: bool = False  # the user named this file, so the result gets no other name
    note: str = ""  # why the result has another format than requested, for the user


def find_jobs(
    inputs: Sequence[str | Path],
    out: str | Path | None,
    *,
    suffix: str = "",
    format: str = "",
    report: Callable[[str], None] = lambda line: None,
) -> list[Job]:
    """Returns the files to upscale, those in folders included, with the paths of their results.

    Inputs that are results of other inputs are left out, so that a command with `*.jpg` can be given again.

    Args:
      inputs: files, folders, and patterns such as "*.jpg" if no file has that name; the structure of sub-folders is
        kept.
      out: a folder, or a file if the only input is a file; None writes each result next to its input.
      suffix: appended to the name of each result, before the file extension.
      format: file extension of the results ("png", ...); "" keeps the format of the input if it can be written, else
        one of the same content.
      report: gets a line about inputs that are left out.

    Raises:
      UserError: no images, a format that can't be written, a result that would replace its input, or a file where a
        folder is expected.
    """
    if any(not str(path) for path in inputs):
        raise UserError("an input is an empty name; expected files or folders")
    if os.sep in suffix or os.sep in format:
        raise UserError(
            f"--suffix and --format: expected parts of a file name without {os.sep}, got {suffix or format!r}"
        )
    paths, format = expand(inputs), format.removeprefix(".")
    if "." in format:
        raise UserError(f"--format {format}: expected one suffix, such as png")
    if format:
        images.format_of(f"x.{format}")
    if out is None and any(os.path.isdir(path) for path in paths):
        raise UserError("an input is a folder: expected -o FOLDER for the results")
    if out and len(paths) == 1 and not os.path.isdir(paths[0]) and _is_file_name(out):
        if suffix or format:
            raise UserError(f"-o {out} is a file name; --suffix and --format are for results in a folder: -o FOLDER")
        jobs = [Job(paths[0], Path(out), named=True)]
    else:
        if out:
            _check_folder(out)
        found = _find_images(paths, Path(out) if out else None, suffix)
        jobs = [Job(source, _target(source, folder, suffix, format)) for source, folder in found]
        jobs = make_distinct(without_results(jobs, beside=out is None, report=report))
    for source, target, *_ in jobs:
        if os.path.realpath(source) == os.path.realpath(target):
            raise UserError(f"the result would replace {target}; choose another folder, or add --suffix _x4")
    return jobs


def count_others(inputs: Sequence[str | Path], out: str | Path | None) -> int:
    """Returns the number of files in the folders among `inputs` that are no images; those in `out` are not counted."""
    folders = [folder for folder in expand(inputs) if os.path.isdir(folder)]
    others = {path for folder in folders for path in images.other_files(folder)}
    results = Path(os.path.realpath(out)) if out else None
    if any(results in Path(os.path.realpath(folder)).parents for folder in folders):
        return len(others)  # a folder that holds the inputs is not one of results alone
    return sum(results not in Path(os.path.realpath(path)).parents for path in others)


def expand(inputs: Sequence[str | Path]) -> list[Path]:
    """Returns the inputs as paths, each once; expands patterns, which the shells of Windows pass on."""
    paths: list[Path] = []
    for name in map(str, inputs):
        if glob.has_magic(name) and not os.path.lexists(name):
            matches = sorted(glob.glob(name, recursive=True))
            if not matches:
                raise MissingFileError(f"no file matches {name}")
            paths += map(Path, matches)
        else:
            paths.append(Path(name))
    return list(dict.fromkeys(paths))


def _is_file_name(out: str | Path) -> bool:
    """Returns whether the value of `-o` names a file: it has a suffix, and is no folder and does not end in a slash.

    Raises:
      UserError: the suffix looks like that of a format, but none that can be written.
    """
    suffix = Path(out).suffix
    if os.path.isdir(out) or _ends_as_folder(out) or not suffix[1:].isalnum() or suffix[1:].isdigit():
        return False
    try:
        images.format_of(out)
    except ValueError as error:
        raise UserError(f"{error}; for a folder of this name, write -o {out}{os.sep}") from None
    return True


def _ends_as_folder(out: str | Path) -> bool:
    return str(out).endswith(("/", os.sep))


def _check_folder(out: str | Path) -> None:
    """Raises UserError if `out` is a file, or has the name of an image file and does not end in a slash."""
    if os.path.exists(out) and not os.path.isdir(out):
        raise UserError(f"-o {out} is a file; expected a folder, or the name of an image if the only input is a file")
    if Path(out).suffix.lower() in images.SUFFIXES and not os.path.isdir(out) and not _ends_as_folder(out):
        raise UserError(f"-o {out} is the name of an image; expected a folder, because there can be several results")


def _find_images(inputs: Sequence[Path], out: Path | None, suffix: str) -> list[tuple[Path, Path]]:
    """Returns each image with the folder of its result; leaves out results of earlier runs that lie in the inputs."""
    found = []
    for path in inputs:
        if out is None or not os.path.isdir(path):  # `out` is None only if all inputs are files
            found.append((path, out or path.parent))
            continue
        out_path, given = os.path.realpath(out), os.path.realpath(path)
        same, within = out_path == given, Path(given) in Path(out_path).parents
        inaccessible = (folder for folder in images.folders(path) if not os.access(folder, os.R_OK | os.X_OK))
        found += [(folder, out) for folder in inaccessible]  # reading them fails later, with a report
        for picture in images.find_images(path):
            inside = out_path in map(str, Path(os.path.realpath(picture.parent), picture.name).parents)
            is_result = suffix and picture.stem.endswith(suffix) if same else within and inside
            if not is_result:
                found.append((picture, out / picture.relative_to(path).parent))
    if not found:
        raise UserError(f"no images in {', '.join(map(str, inputs))}")
    return found


def without_results(jobs: list[Job], *, beside: bool, report: Callable[[str], None]) -> list[Job]:
    """Returns the jobs whose inputs are not results of other inputs, and not files that this package keeps.

    A result is recognised by its record; with `beside` also by its name, which is that of another input's result.
    """
    origins = {os.path.realpath(job.source): job for job in jobs}
    targets = {os.path.realpath(job.target): job for job in jobs} if beside else {}
    digests: set[str] = set()

    def is_result(job: Job) -> bool:
        record, path = records.record_of(job.source), os.path.realpath(job.source)
        if record is None:
            return targets.get(path, job) != job
        if record.origin in origins and record.origin != path:
            return True
        if not digests:
            digests.update(filter(None, (records.digest_or_none(other.source) for other in jobs)))
        return record.source in digests

    images_only = [
        job for job in jobs if job.source.name != records.FILE and not atomic.TEMPORARY.fullmatch(job.source.name)
    ]
    left_out = [job for job in images_only if is_result(job)]
    if left_out:
        names = ", ".join(str(job.source) for job in left_out[:3]) + (", ..." if len(left_out) > 3 else "")
        what = "input is a result of another and is" if len(left_out) == 1 else "inputs are results of others and are"
        report(f"{len(left_out)} {what} left out: {names}")
    results = set(left_out)
    return [job for job in images_only if job not in results]


def make_distinct(jobs: list[Job]) -> list[Job]:
    """Returns jobs with distinct targets.

    If `a.jpg` and `a.png` are written in one format, the results are `a_jpg.png` and `a_png.png`. If files of one name
    come from several folders, the results after the first get the name of the folder: `a.jpg`, `a_card2.jpg`; with
    `A.PNG` and `a.png` in one folder, the second result is `a_png.png`. Names that are still equal get a number. Names
    that differ only in case count as equal, as some file systems ignore case.
    """
    groups: dict[str, list[Job]] = collections.defaultdict(list)
    for job in jobs:
        groups[_casefolded(job.target)].append(job)
    distinct, used = [], set()
    for job in jobs:
        source, target, *_ = job
        group = groups[_casefolded(target)]
        if len(group) > 1 and len({other.source.suffix.lower() for other in group}) == len(group):
            target = name_with_format(target, source)
        elif job is not group[0]:
            beside = source.parent == group[0].source.parent and source.suffix
            target = name_with_format(target, source) if beside else name_with_folder(target, source)
        number, base = 2, target
        while _casefolded(target) in used:
            target, number = numbered(base, number), number + 1
        used.add(_casefolded(target))
        distinct.append(Job(source, target))
    return distinct


def _casefolded(path: Path) -> str:
    return str(path).casefold()


def name_with_format(target: Path, source: Path) -> Path:
    """Returns `target` with the format of its source in the name: `a_jpg.png`."""
    return target.with_name(f"{target.stem}_{source.suffix[1:]}{target.suffix}")


def name_with_folder(target: Path, source: Path) -> Path:
    """Returns `target` with the name of the folder of its source in the name: `a_card2.jpg`."""
    folder = Path(os.path.realpath(source)).parent.name
    return target.with_name(f"{target.stem}_{folder}{target.suffix}") if folder else numbered(target, 2)


def numbered(target: Path, number: int) -> Path:
    """Returns `target` with a number in the name: `a_2.jpg`."""
    return target.with_name(f"{target.stem}_{number}{target.suffix}")


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
