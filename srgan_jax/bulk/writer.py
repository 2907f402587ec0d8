"""`Writer`, which encodes results in threads; `Progress`; `Summary`; and `DeviceError`, for failures of the device."""

import collections
import dataclasses
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from srgan_jax import images, inference
from srgan_jax.bulk.jobs import Job, SizeOf

QUEUE_BYTES = 512 << 20  # limit for decoded images that wait for the device, and for results that wait for an encoder


@dataclasses.dataclass
class Summary:
    """The outcome of each file.

    Attributes:
      done: jobs whose results were written.
      skipped: jobs whose results existed.
      differing: existing results that differ from what would be written, and how.
      failed: inputs that failed, and the reason.
    """

    done: list[Job] = dataclasses.field(default_factory=list)
    skipped: list[Job] = dataclasses.field(default_factory=list)
    differing: list[tuple[Path, str]] = dataclasses.field(default_factory=list)
    failed: list[tuple[Path, str]] = dataclasses.field(default_factory=list)

    def skip(self, job: Job, size_of: SizeOf) -> None:
        """Records a job whose result exists, and whether that has another size or is older than its input."""
        self.skipped.append(job)
        if how := _difference(job, size_of):
            self.differing.append((job.target, how))


def _difference(job: Job, size_of: SizeOf) -> str:
    """Describes differences in size and date; "" if there are none, or a file can't be read."""
    try:
        found, source = (images.image_size(path, max_pixels=sys.maxsize) for path in (job.target, job.source))
        older = os.path.getmtime(job.target) < os.path.getmtime(job.source)
    except (images.ImageError, OSError):
        return ""
    now = size_of(*source)
    other_size = f"{found[1]} x {found[0]} pixels where this command gives {now[1]} x {now[0]}"
    return ", ".join([other_size] * (found != now) + [f"older than {job.source}"] * older)


class Task(NamedTuple):
    """A decoded image whose result is not written yet."""

    job: Job
    picture: images.Picture
    target: Path  # has another format than the job's target if that format can't hold the result


class DeviceError(Exception):
    """The device failed, or memory ran out, while tiles were computed; not caused by a particular file."""


def wrap_device_errors(results: Iterator) -> Iterator:
    """Yields the same results, and strips in them; turns every exception raised by them into `DeviceError`."""
    results = iter(results)
    while True:
        try:
            item = next(results)
        except StopIteration:
            return
        except inference.NonFiniteError:  # of this image only
            raise
        except Exception as error:
            raise DeviceError(images.reason(error)) from error
        yield (item[0], wrap_device_errors(item[1])) if isinstance(item, tuple) else item


class Progress:
    """Reports the number of LR pixels done; each frame of an image counts as an equal fraction of its pixels."""

    def __init__(self, report: Callable[[int, int], None], planned: dict[Job, tuple[int, int]]):
        self._report, self._planned = report, planned
        self._done, self._total = 0.0, sum(map(math.prod, planned.values()))

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
    """Encodes results in threads; the queue is limited to `ahead` results and QUEUE_BYTES."""

    def __init__(self, executor: ThreadPoolExecutor, ahead: int, quality: int, summary: Summary):
        self._executor, self._ahead, self._quality, self._summary = executor, ahead, quality, summary
        self._waiting: collections.deque[tuple[Task, Future, int]] = collections.deque()

    def write(self, task: Task, frames: Iterator[Iterator[np.ndarray]], size_of: SizeOf, scale: int) -> None:
        """Consumes all strips of all frames; writes TIFF at once by rows, and queues other formats for encoding."""
        before = [(frame.shape, frame.dtype) for frame in task.picture.frames]
        pages = (
            (
                images.resize_rows(strips, (scale * shape[0], scale * shape[1], shape[2]), size_of(*shape[:2])),
                (*size_of(*shape[:2]), shape[2]),
                dtype,
            )
            for strips, (shape, dtype) in zip(frames, before, strict=True)
        )
        try:
            if task.target.suffix in images.TIFFS:
                total = sum(math.prod(size_of(*shape[:2])) * shape[2] * dtype.itemsize for shape, dtype in before)
                images.write_tiff_pages(task.target, pages, task.picture, total)
                self._summary.done.append(Job(task.job.source, task.target))
            else:
                whole = [np.concatenate(list(strips)) for strips, _, _ in pages]
                picture = dataclasses.replace(task.picture, frames=tuple(whole))
                future = self._executor.submit(images.write_image, task.target, picture, quality=self._quality)
                self._waiting.append((task, future, sum(frame.nbytes for frame in whole)))
        except inference.NonFiniteError as error:
            self._summary.failed.append((task.job.source, str(error)))
        except (OSError, ValueError, MemoryError) as error:
            self._summary.failed.append((task.job.source, f"can't write {task.target}: {images.reason(error)}"))
        collections.deque(frames, maxlen=0)  # consumes the frames that an error left
        while len(self._waiting) > self._ahead or sum(entry[2] for entry in self._waiting) > QUEUE_BYTES:
            self._finish_oldest()

    def close(self) -> None:
        """Waits until all queued results are written."""
        while self._waiting:
            self._finish_oldest()

    def _finish_oldest(self) -> None:
        task, future, _ = self._waiting.popleft()
        try:
            future.result()
            self._summary.done.append(Job(task.job.source, task.target))
        except Exception as error:  # Pillow's encoders raise nearly everything
            self._summary.failed.append((task.job.source, f"can't write {task.target}: {images.reason(error)}"))
