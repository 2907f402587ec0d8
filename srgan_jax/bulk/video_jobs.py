"""The names of the results of videos, and which of them are done."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from srgan_jax.bulk import records
from srgan_jax.bulk.jobs import Job, make_distinct, without_results
from srgan_jax.bulk.options import Options, weights_digest
from srgan_jax.bulk.planning import Names
from srgan_jax.bulk.sizes import SizeOf
from srgan_jax.bulk.video import names_video, video_target
from srgan_jax.bulk.writer import Resolved
from srgan_jax.images.video_reader import Limits, read_info
from srgan_jax.runtime import atomic
from srgan_jax.runtime.errors import UserError
from srgan_jax.weights import Weights


def find_video_jobs(
    videos: Sequence[Path], out: str | None, suffix: str, format: str, report: Callable[[str], None]
) -> list[Job]:
    """Returns videos with the paths of their results; no two are equal. Results among the videos are left out.

    The arguments are those of `video_target`; `report` gets a line about what is left out.

    Raises:
      UserError: `out` names one video, and there are several.
    """
    named = names_video(out)
    if named and len(videos) > 1:
        raise UserError(f"-o {out} is the name of one video; expected a folder for {len(videos)} videos")
    jobs = [Job(video, video_target(video, out, suffix, format), named) for video in videos]
    return jobs if named else make_distinct(without_results(jobs, beside=out is None, report=report))


class VideoNames:
    """Gives each result its final name, recognises finished results, and records those that are written."""

    def __init__(
        self,
        jobs: Sequence[Job],
        size_of: SizeOf,
        generators: Sequence[Weights],
        *,
        codec: str | None,
        crf: int,
        self_ensemble: bool,
        overwrite: bool,
        max_pixels: int,
        max_seconds: float,
    ):
        """Takes what decides the content of the results; the arguments are those of `upscale_video`."""
        settings = weights_digest(generators, repr((codec, crf, self_ensemble)))
        self._names = Names(jobs, size_of, Options(overwrite=overwrite), settings)
        self._limits = Limits(max_pixels, max_seconds)

    def resolve(self, job: Job) -> tuple[Resolved, tuple[int, int]]:
        """Returns where the result of a job goes, and height and width of the video; raises as `Names.resolve`."""
        size = read_info(job.source, self._limits).size
        return self._names.resolve(job, size, lambda: records.file_digest(job.source)), size

    @contextlib.contextmanager
    def recorded(self, job: Job, target: Path, size: tuple[int, int]) -> Iterator[None]:
        """Records the result that is written in the `with` block, before it appears."""
        source, settings = records.file_digest(job.source), self._names.settings(size)

        def record(content: Path, path: Path) -> None:
            if path == target:  # not the segments
                records.add_record(content, path, source=source, settings=settings, origin=job.source)

        with atomic.before_rename(record):
            yield
