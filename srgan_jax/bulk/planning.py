"""What is to be done: which results are finished, and the final names of the others."""

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from srgan_jax import images
from srgan_jax.bulk import failures, records
from srgan_jax.bulk.jobs import Job, name_with_folder, name_with_format, numbered
from srgan_jax.bulk.options import Options
from srgan_jax.bulk.sizes import SizeOf
from srgan_jax.bulk.writer import Resolved, Summary
from srgan_jax.runtime.errors import UserError

LARGEST_PIXEL_BYTES = 8  # RGB and alpha of 16 bits
MAX_ENLARGEMENT = 256  # a result may have so many times the pixels that an input may have: 16 times its sides
MAX_SIDE_PX = 1 << 20  # of a result: rows are kept in memory


class Names:
    """Gives each result of a run its final name, and recognises finished results."""

    def __init__(self, jobs: Sequence[Job], size_of: SizeOf, options: Options, settings: str):
        """Reserves the paths of all inputs; `settings` is from `options.settings_digest`."""
        # path -> the input whose result it is; None for an input
        self._used: dict[str, Path | None] = {os.path.realpath(job.source): None for job in jobs}
        self._used |= {os.path.realpath(job.target): job.source for job in jobs}
        self._size_of, self._overwrite, self._settings = size_of, options.overwrite, settings

    def settings(self, size: tuple[int, int]) -> str:
        """Returns the SHA-256 of all that decides the result of an input of this size, but for its content."""
        return hashlib.sha256(
            f"{self._settings} {self._size_of.resized(*size)} {self._size_of(*size)}".encode()
        ).hexdigest()

    def resolve(self, job: Job, size: tuple[int, int], digest: Callable[[], str]) -> Resolved:
        """Returns where the result of a job goes: to `job.target`, or to another name if that is another file.

        Args:
          job: its target has the suffix with which it will be written.
          size: height and width of the input.
          digest: returns the SHA-256 of the input.

        Raises:
          UserError: the user named the target, and another file has that name.
        """
        instead_of = None
        for target in self._names(job):
            if self._used.get(os.path.realpath(target), job.source) != job.source:
                continue
            self._used[os.path.realpath(target)] = job.source
            if self._overwrite or not os.path.lexists(target):
                return Resolved(target, False, instead_of)
            difference = self._difference(target, job, size, digest)
            if not difference:
                return Resolved(target, True)
            if job.named:
                raise UserError(f"{target} exists and {difference}; --overwrite replaces it")
            instead_of = instead_of or (target, difference)
        raise AssertionError("the names never end")

    def _names(self, job: Job) -> Iterator[Path]:
        yield job.target
        if self._used.get(os.path.realpath(job.target), job.source) != job.source:
            yield name_with_format(job.target, job.source)
        record = records.record_of(job.target)
        if record and os.path.dirname(record.origin) != os.path.dirname(os.path.realpath(job.source)):
            yield name_with_folder(job.target, job.source)
        number = 2
        while True:
            yield numbered(job.target, number)
            number += 1

    def _difference(self, target: Path, job: Job, size: tuple[int, int], digest: Callable[[], str]) -> str:
        """Returns why an existing file isn't the result of a job; "" if it is."""
        record = records.record_of(target)
        if record is None:
            return "was written or changed by something else"
        if record.source != digest():
            same = record.origin == os.path.realpath(job.source)
            return "was made from an earlier content of this file" if same else f"was made from {record.origin}"
        return "" if record.settings == self.settings(size) else "was made with other settings"


def plan(
    jobs: Iterable[Job], size_of: SizeOf, names: Names, options: Options
) -> tuple[dict[Job, tuple[int, int]], Summary]:
    """Returns the jobs to do with the heights and widths of their inputs, and a summary of the others.

    The targets are the files that will be written.
    """
    planned, summary = {}, Summary()
    for job in jobs:
        try:
            size = images.image_size(job.source, max_pixels=options.max_pixels, max_seconds=options.max_seconds)
            check_result(size_of, size, options.max_pixels)
            job = _with_suitable_format(job, size, size_of, options)
            found = names.resolve(job, size, lambda job=job: records.file_digest(job.source))
        except Exception as error:  # whatever a file does, the others are done
            summary.failed.append((job.source, failures.describe(error, job.source)))
            continue
        summary.add_resolved(job, found)
        if not found.done:
            planned[job._replace(target=found.target)] = size
    return planned, summary


def check_result(size_of: SizeOf, size: tuple[int, int], max_pixels: int) -> None:
    """Raises UserError for a result too large for memory, whose size is mistyped in all likelihood."""
    for height, width in (size_of.resized(*size), size_of(*size)):
        if max(height, width) > MAX_SIDE_PX or height * width > MAX_ENLARGEMENT * max_pixels:
            raise UserError(
                f"the result would have {width:,} x {height:,} pixels; expected at most {MAX_SIDE_PX:,} a side, and "
                f"{MAX_ENLARGEMENT * max_pixels / 1e6:,.0f} megapixels (see --scale and --max-pixels)"
            )


def _with_suitable_format(job: Job, size: tuple[int, int], size_of: SizeOf, options: Options) -> Job:
    """Returns the job; its target has the suffix of the format in which it will be written.

    Only images that may be too large for their format, and those of HDR, are decoded for that.
    """
    after = size_of(*size)
    if job.target.suffix.lower() in images.TIFFS:
        return job
    small = math.prod(after) * LARGEST_PIXEL_BYTES * _frame_count(job, options) <= images.MAX_IN_MEMORY_BYTES
    fits = small and max(after) <= images.format_of(job.target).max_side_px
    if fits and images.can_state_colors(job.source, job.target, options.max_pixels):
        return job
    picture = images.decode_image(job.source, stream=True, **options.reading)
    _, target, notes = images.fit_format(picture, job.target, size_of)
    if target == job.target:
        return job
    return job._replace(target=target, note=next((note for note in notes if "written as" in note), ""))


def _frame_count(job: Job, options: Options) -> float:
    """Returns the number of frames; infinity if they may differ in size, or Pillow can't read the file."""
    try:
        with images.open_image(job.source, options.max_pixels) as image:
            count = getattr(image, "n_frames", 1)
            return math.inf if image.format == "TIFF" and count > 1 else count
    except images.ImageError:
        return math.inf
