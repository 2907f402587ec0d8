"""Upscales files: threads decode and encode while the device computes; a file that fails never stops the others."""

import collections
import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from srgan_jax import images, inference
from srgan_jax.bulk import failures, records
from srgan_jax.bulk.bands import upscale_bands
from srgan_jax.bulk.chains import group_by_passes, make_chain, repeat_generators, report_seams, report_sizes
from srgan_jax.bulk.jobs import Job
from srgan_jax.bulk.options import Options, settings_digest
from srgan_jax.bulk.planning import Names, plan
from srgan_jax.bulk.sizes import SizeOf
from srgan_jax.bulk.writer import (
    QUEUE_BYTES,
    DeviceError,
    Progress,
    StepError,
    Summary,
    Task,
    Writer,
    wrap_device_errors,
)
from srgan_jax.models import channels_of
from srgan_jax.runtime.atomic import delete_leftovers
from srgan_jax.weights import Weights


def upscale_files(
    jobs: Sequence[Job],
    params: Weights | Sequence[Weights],
    size_of: SizeOf,
    *,
    report: Callable[[str], None] = print,
    progress: Callable[[int, int], None] = lambda done, total: None,
    **options: Any,
) -> Summary:
    """Upscales files, with one compilation for all of them.

    Args:
      jobs: from `find_jobs`.
      params: the generator, or several that are applied one after another.
      size_of: from `target_size`.
      report: gets lines for the user.
      progress: gets the number of LR pixels done and their total.
      **options: the fields of `Options`.

    Returns:
      The outcome of each file. Whatever a file does, the others are done. If the device fails, the remaining files are
      listed as failed.

    Raises:
      UserError: `tile_px` is too small.
      Interrupted: Ctrl-C; results that were computed are written first.
    """
    given, generators = Options(**options), [params] if isinstance(params, Weights) else list(params)
    names = Names(jobs, size_of, given, settings_digest(generators, given))
    planned, summary = plan(jobs, size_of, names, given)
    for folder in {job.target.parent for job in jobs}:
        delete_leftovers(folder)
    if planned and channels_of(generators[0].architecture) not in (1, 3):
        chain = make_chain(
            generators, list(planned.values()), tile_px=given.tile_px, self_ensemble=given.self_ensemble, report=report
        )
        return upscale_bands(planned, chain, size_of, summary, given.max_pixels, progress)
    counter = Progress(progress, planned)
    try:
        with _executors(given.threads) as executors:
            run = _Run(given, size_of, names, summary, counter, report, *executors)
            for passes, group in group_by_passes(planned, size_of).items():
                chain = make_chain(
                    repeat_generators(generators, passes),
                    list(group.values()),
                    tile_px=given.tile_px,
                    self_ensemble=given.self_ensemble,
                    report=report,
                )
                report_sizes(chain, group, passes, size_of, report)
                run.upscale(chain, group)
                report_seams(chain, report)
    except KeyboardInterrupt:
        raise Interrupted(summary, len(planned)) from None
    return summary


class Interrupted(KeyboardInterrupt):
    """Ctrl-C; `summary` has the outcomes so far, `planned` is the number of files that were to be done."""

    def __init__(self, summary: Summary, planned: int):
        super().__init__()
        self.summary, self.planned = summary, planned


def decode_ahead(
    planned: dict[Job, tuple[int, int]], options: Options, executor: ThreadPoolExecutor
) -> Iterator[tuple[Job, Future]]:
    """Yields jobs with the futures of their decoded images and the SHA-256 of their files.

    Up to `options.threads` images, or QUEUE_BYTES, are decoded ahead.
    """

    def decode(job: Job) -> tuple[images.Picture, str]:
        return images.decode_image(job.source, stream=True, **options.reading), records.file_digest(job.source)

    waiting: collections.deque[tuple[Job, Future, int]] = collections.deque()
    for job, (height, width) in planned.items():
        size = 4 * height * width
        while waiting and (len(waiting) > options.threads or size + sum(w[2] for w in waiting) > QUEUE_BYTES):
            yield waiting.popleft()[:2]
        waiting.append((job, executor.submit(decode, job), size))
    yield from (entry[:2] for entry in waiting)


@dataclasses.dataclass
class _Run:
    """What all files of a run share, and the passage of files through decoder, network and encoder."""

    options: Options
    size_of: SizeOf
    names: Names
    summary: Summary
    counter: Progress
    report: Callable[[str], None]
    decoders: ThreadPoolExecutor
    encoders: ThreadPoolExecutor

    def upscale(self, chain: inference.Chain, planned: dict[Job, tuple[int, int]]) -> None:
        """Upscales files; after an error in the network, those that were in it are tried again, each alone."""
        while planned:
            try:
                self._together(chain, planned)
                return
            except DeviceError as error:
                self.summary.failed += [
                    (job.source, f"not upscaled: {error}") for job in self._without_outcome(planned)
                ]
                return
            except StepError as error:
                planned = self._without_outcome(planned)
                if len(planned) == 1:
                    self._fail(
                        next(iter(planned)), error.__cause__ if isinstance(error.__cause__, Exception) else error
                    )
                    return
                ahead = 1 + len(chain.tilers) * self.options.threads  # at least as many as were in the network
                for job in list(planned)[:ahead]:
                    self.upscale(chain, {job: planned.pop(job)})

    def _without_outcome(self, planned: dict[Job, tuple[int, int]]) -> dict[Job, tuple[int, int]]:
        known = {job.source for job in (*self.summary.done, *self.summary.skipped)}
        known |= {path for path, _ in self.summary.failed}
        return {job: size for job, size in planned.items() if job.source not in known}

    def _together(self, chain: inference.Chain, planned: dict[Job, tuple[int, int]]) -> None:
        """Passes the results of all frames of all images to the writer, and always closes the writer."""
        tasks: collections.deque[Task] = collections.deque()
        decoded = decode_ahead(planned, self.options, self.decoders)
        results = wrap_device_errors(chain.upscale(self._frames(decoded, planned, tasks)))
        writer = Writer(self.encoders, self.options, self.summary)
        try:
            for _, first in results:
                task = tasks.popleft()
                others = (strips for _, strips in itertools.islice(results, len(task.picture.frames) - 1))
                counted = self.counter.count(itertools.chain([first], others), task, chain.scale)
                writer.write(task, counted, self.size_of, chain.scale)
        finally:
            writer.close()

    def _frames(
        self, decoded: Iterable[tuple[Job, Future]], planned: dict[Job, tuple[int, int]], tasks: collections.deque[Task]
    ) -> Iterator[np.ndarray]:
        """Yields all frames of all readable images; appends the task of each to `tasks` before its first frame."""
        for job, future in decoded:
            try:
                task = self._task(job, planned[job], *future.result())
            except Exception as error:  # whatever a file does, the others are done
                self._fail(job, error)
                continue
            if task is None:
                self.counter.skip(job)
                continue
            tasks.append(task)
            yield from task.picture.frames

    def _task(self, job: Job, size: tuple[int, int], picture: images.Picture, digest: str) -> Task | None:
        """Returns the image adapted to the options and the output format; None if another run has written it."""
        picture, target, notes = _prepare(picture, job, self.size_of, self.options)
        found = self.names.resolve(job._replace(target=target), size, lambda: digest)
        for note in [job.note] * bool(job.note) + notes:
            self.report(f"{job.source}: {note}")
        self.summary.add_resolved(job, found)
        return None if found.done else Task(job, picture, found.target, digest, self.names.settings(size))

    def _fail(self, job: Job, error: Exception) -> None:
        self.summary.failed.append((job.source, failures.describe(error, job.source)))
        self.counter.skip(job)


@contextlib.contextmanager
def _executors(threads: int) -> Iterator[tuple[ThreadPoolExecutor, ThreadPoolExecutor]]:
    pair = ThreadPoolExecutor(threads), ThreadPoolExecutor(threads)
    try:
        yield pair
    finally:
        for executor in pair:
            executor.shutdown(cancel_futures=True)


def _prepare(
    picture: images.Picture, job: Job, size_of: SizeOf, options: Options
) -> tuple[images.Picture, Path, list[str]]:
    """Returns the image adapted to the options and the output format, its target, and lines for the user."""
    if options.strip:
        picture = images.stripped(picture)
    if options.drop_opaque_alpha and all(frame.shape[-1] in (2, 4) and _is_opaque(frame) for frame in picture.frames):
        picture = dataclasses.replace(
            picture,
            frames=images.change_frames(picture.frames, lambda frame: frame[..., :-1], channels=picture.shape[2] - 1),
        )
    return images.fit_format(picture, job.target, size_of)


def _is_opaque(frame: np.ndarray) -> bool:
    return bool((frame[..., -1] == np.iinfo(frame.dtype).max).all())
