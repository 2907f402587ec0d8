"""Which files to upscale, where their results go, and how large they shall be."""

import collections
import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from srgan_jax import images
from srgan_jax.errors import UserError

LOSSY = {".heic": ".jpg", ".heif": ".jpg"}  # read, never written

SizeOf = Callable[[int, int], tuple[int, int]]  # height and width before -> after


class Job(NamedTuple):
    """A file to be upscaled, and the file that shall hold the result."""

    source: Path
    target: Path


def find_jobs(inputs: Sequence[str | Path], out: str | Path, *, suffix: str = "", format: str = "") -> list[Job]:
    """The files named by `inputs`, those in folders included, and where their results go.

    Args:
      inputs: files and folders; the structure below a folder is kept.
      out: a folder, or a file where there is one input and it is a file.
      suffix: put behind the name, before the dot.
      format: "png", ...; by default the format of the input where it can be written, else PNG (JPEG for HEIC).

    Raises:
      UserError: nothing to do, a format that can't be written, or a result that would replace its input.
    """
    out, inputs = Path(out), [Path(path) for path in inputs]
    if format:
        images.format_of(f"x.{format}")
    if len(inputs) == 1 and not inputs[0].is_dir() and out.suffix and not out.is_dir():
        images.format_of(out)
        jobs = [Job(inputs[0], out)]
    else:
        found = list(itertools.chain.from_iterable(_files(path) for path in inputs))
        if not found:
            raise UserError(f"no pictures in {', '.join(map(str, inputs))}")
        jobs = [Job(path, _target(path, out / below, suffix, format)) for path, below in found]
        counts = collections.Counter(job.target for job in jobs)
        jobs = [
            Job(source, target.with_name(f"{target.stem}_{source.suffix[1:]}{target.suffix}"))
            if counts[target] > 1
            else Job(source, target)
            for source, target in jobs
        ]
    for job in jobs:
        if job.target.resolve() == job.source.resolve():
            raise UserError(f"the result would replace {job.source}; choose another folder, or add --suffix _x4")
    if len({job.target for job in jobs}) < len(jobs):
        raise UserError("several inputs have the same name; upscale them into different folders")
    return jobs


def _files(path: Path) -> Iterable[tuple[Path, Path]]:
    """Pictures with their folder below `path`."""
    if not path.is_dir():
        return [(path, Path())]
    return [(found, found.relative_to(path).parent) for found in images.find_pictures(path)]


def _target(source: Path, folder: Path, suffix: str, format: str) -> Path:
    ending = f".{format.lower()}" if format else source.suffix.lower()
    ending = LOSSY.get(ending, ending)
    if ending not in images.FORMATS or (ending == ".gif" and not format and not _is_animated(source)):
        ending = ".png"
    return folder / f"{source.stem}{suffix}{ending}"


def _is_animated(path: Path) -> bool:
    try:
        with images.open_picture(path) as image:
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
    if len(given) > 1 or any(not value > 0 for value in given.values()):
        raise UserError(f"expected one of --scale, --width and --long-side, and more than 0; got {given}")

    def size_of(before_height: int, before_width: int) -> tuple[int, int]:
        ratio = scale or network_scale
        if width or long_side:
            ratio = width / before_width if width else long_side / max(before_height, before_width)
        return max(1, round(before_height * ratio)), max(1, round(before_width * ratio))

    return size_of
