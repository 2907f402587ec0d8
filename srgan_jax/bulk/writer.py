"""`Writer`, which encodes results in threads; `Progress`; `Summary`; and `DeviceError`, for failures of the device."""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from srgan_jax import images, inference
from srgan_jax.bulk import failures, records
from srgan_jax.bulk.jobs import Job
from srgan_jax.bulk.options import Options
from srgan_jax.bulk.sizes import SizeOf, rows_of_result
from srgan_jax.runtime import atomic
from srgan_jax.runtime.errors import UserError

QUEUE_BYTES = 512 << 20  # limit for decoded images that wait for the device, and for results that wait for an encoder


class Resolved(NamedTuple):
    """Where a result goes; see `planning.Names.resolve`."""

    target: Path
    done: bool  # it exists already
    instead_of: tuple[Path, str] | None = None  # the file that has its first name, and why that is another one


@dataclasses.dataclass
class Summary:
    """The outcome of each file.

    Attributes:
      done: jobs whose results were written.
      skipped: jobs whose results existed.
      renamed: results that got another name, because another file has theirs: result, that file, and what it is.
      failed: inputs that failed, and the reason.
      pixels: number of LR pixels of the jobs that were done.
    """

    done: list[Job] = dataclasses.field(default_factory=list)
    skipped: list[Job] = dataclasses.field(default_factory=list)
    renamed: list[tuple[Path, Path, str]] = dataclasses.field(default_factory=list)
    failed: list[tuple[Path, str]] = dataclasses.field(default_factory=list)
    pixels: int = 0

    def add_resolved(self, job: Job, found: Resolved) -> None:
        """Records that a result exists already, or that it gets another name."""
        if found.done:
            self.skipped.append(job._replace(target=found.target))
        elif found.instead_of:
            self.renamed.append((found.target, *found.instead_of))


class Task(NamedTuple):
    """A decoded image whose result is not written yet."""

    job: Job
    picture: images.Picture
    target: Path  # has another format than the job's target if that format can't hold the result
    source: str  # SHA-256 of the file
    settings: str  # SHA-256, see `planning.Names.settings`


class DeviceError(Exception):
    """The device failed, or its memory ran out, while tiles were computed; not caused by a particular file."""


class StepError(Exception):
    """An error while images passed the network, which one of them may have caused; `__cause__` is the error."""


def wrap_device_errors(results: Iterator) -> Iterator:
    """Yields the same results, and strips in them; turns exceptions raised by them into the two errors above."""
    results = iter(results)
    while True:
        try:
            item = next(results)
        except StopIteration:
            return
        except inference.NonFiniteError:  # of this image only; the next ones follow
            raise
        except Exception as error:
            # A plain UserError: the smallest tile doesn't fit into the memory.
            if isinstance(error, jax.errors.JaxRuntimeError) or type(error) is UserError:
                raise DeviceError(images.reason(error)) from error
            raise StepError from error
        yield (item[0], wrap_device_errors(item[1])) if isinstance(item, tuple) else item


class Progress:
    """Reports the number of LR pixels done; each frame of an image counts as an equal fraction of its pixels."""

    def __init__(self, report: Callable[[int, int], None], planned: dict[Job, tuple[int, int]]):
        self._report, self._planned = report, planned
        self._done, self._total = 0.0, sum(map(math.prod, planned.values()))
        if planned:
            report(0, self._total)

    def _add(self, pixels: float) -> None:
        self._done = min(self._done + pixels, self._total)
        self._report(round(self._done), self._total)

    def skip(self, job: Job) -> None:
        """Counts an image that failed or was skipped as done."""
        self._add(math.prod(self._planned[job]))

    def count(self, frames: Iterable[Iterator], task: Task, scale: int) -> Iterator[Iterator]:
        """Yields the same strips and counts their pixels."""

        def counted(strips):
            for strip in strips:
                self._add(strip.shape[0] * strip.shape[1] / scale**2 / len(task.picture.frames))
                yield strip

        yield from map(counted, frames)


class Writer:
    """Encodes results in threads; the queue is limited to as many results as threads, and QUEUE_BYTES."""

    def __init__(self, executor: ThreadPoolExecutor, options: Options, summary: Summary):
        self._executor, self._options, self._summary = executor, options, summary
        self._waiting: collections.deque[tuple[Task, Future, int]] = collections.deque()

    def write(self, task: Task, frames: Iterator[Iterator[np.ndarray]], size_of: SizeOf, scale: int) -> None:
        """Consumes all strips of all frames; writes TIFF at once by rows, and queues other formats for encoding."""
        before = task.picture.layouts
        pages = (
            (
                rows_of_result(strips, (scale * shape[0], scale * shape[1], shape[2]), shape[:2], size_of),
                (*size_of(*shape[:2]), shape[2]),
                dtype,
            )
            for strips, (shape, dtype) in zip(frames, before, strict=True)
        )
        try:
            if task.target.suffix.lower() in images.TIFFS:
                total = sum(math.prod(size_of(*shape[:2])) * shape[2] * dtype.itemsize for shape, dtype in before)
                self._save(task, images.write_tiff_pages, pages, task.picture, total)
                self._count_done(task)
            elif task.picture.durations_ms and len(before) > 1:
                whole = (np.concatenate(list(strips)) for strips, _, _ in pages)
                size = size_of(*before[0][0][:2])
                more = {"quality": self._options.quality, "ordered_map": self._ordered_map}
                self._save(task, images.write_animation, whole, task.picture, size, **more)
                self._count_done(task)
            else:
                whole = [np.concatenate(list(strips)) for strips, _, _ in pages]
                picture = dataclasses.replace(task.picture, frames=tuple(whole))
                quality = self._options.quality
                future = self._executor.submit(self._save, task, images.write_image, picture, quality=quality)
                self._waiting.append((task, future, sum(frame.nbytes for frame in whole)))
        except (DeviceError, StepError):
            raise
        except inference.NonFiniteError as error:
            self._summary.failed.append((task.job.source, str(error)))
        except Exception as error:
            self._count_failed(task, error)
        collections.deque(frames, maxlen=0)  # consumes the frames that an error left
        while len(self._waiting) > self._options.threads or sum(entry[2] for entry in self._waiting) > QUEUE_BYTES:
            self._finish_oldest()

    def _ordered_map(self, encode: Callable, frames: Iterator[np.ndarray]) -> Iterator[bytes]:
        """Yields `encode(frame)` of each frame; encodes several frames in threads while the next are computed."""
        waiting: collections.deque[Future] = collections.deque()
        for frame in frames:
            waiting.append(self._executor.submit(encode, frame))
            while len(waiting) > self._options.threads:
                yield waiting.popleft().result()
        yield from (future.result() for future in waiting)

    def close(self) -> None:
        """Waits until all queued results are written."""
        while self._waiting:
            self._finish_oldest()

    def _save(self, task: Task, write: Callable, *args, **options) -> None:
        """Writes a result, and its record before it appears."""

        def record(content: Path, path: Path) -> None:
            existing = records.record_of(path) if path == task.target and not self._options.overwrite else None
            if existing and existing.source != task.source:
                raise UserError("another run has written a result of this name; give the same command again")
            if path == task.target:
                records.add_record(content, path, source=task.source, settings=task.settings, origin=task.job.source)

        with atomic.before_rename(record):
            write(task.target, *args, **options)

    def _finish_oldest(self) -> None:
        task, future, _ = self._waiting.popleft()
        try:
            future.result()
            self._count_done(task)
        except Exception as error:  # Pillow's encoders raise nearly everything
            self._count_failed(task, error)

    def _count_done(self, task: Task) -> None:
        self._summary.done.append(Job(task.job.source, task.target))
        self._summary.pixels += sum(math.prod(shape[:2]) for shape, _ in task.picture.layouts)

    def _count_failed(self, task: Task, error: Exception) -> None:
        reason = failures.describe(error, task.job.source)
        self._summary.failed.append((task.job.source, f"can't write {task.target}: {reason}"))
