"""Upscaling files: decoding ahead of the device, encoding behind it, one bad file never stopping the rest."""

import collections
import contextlib
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from srgan_jax import images, tiling
from srgan_jax.errors import UserError
from srgan_jax.files.jobs import Job, SizeOf
from srgan_jax.weights import Weights

AHEAD_BYTES = 512 << 20  # of decoded pictures that wait for the device, and of results that wait for an encoder
LARGE_PIXELS = 100_000_000  # of a result: size and time are told first


@dataclasses.dataclass
class Summary:
    """What became of the files."""

    done: list[Job] = dataclasses.field(default_factory=list)
    skipped: list[Job] = dataclasses.field(default_factory=list)  # their results were there
    failed: list[tuple[Path, str]] = dataclasses.field(default_factory=list)  # and why


class Task(NamedTuple):
    """A decoded picture on its way."""

    job: Job
    picture: images.Picture
    target: Path  # of another format than the job's where that can't hold the result


def plan(jobs: Iterable[Job], *, overwrite: bool, max_pixels: int) -> tuple[dict[Job, tuple[int, int]], Summary]:
    """What is left to do, with the heights and widths of the pictures; the rest stands in the summary."""
    planned, summary = {}, Summary()
    for job in jobs:
        if job.target.exists() and not overwrite:
            summary.skipped.append(job)
            continue
        try:
            planned[job] = images.image_size(job.source, max_pixels=max_pixels)
        except (images.ImageError, OSError) as error:
            summary.failed.append((job.source, images.reason(error)))
    return planned, summary


def make_tiler(
    params: Weights,
    sizes: Sequence[tuple[int, int]],
    *,
    tile_px: int | None = None,
    self_ensemble: bool = False,
    say: Callable[[str], None] = print,
) -> tiling.Tiler:
    """A `Tiler` for pictures of these sizes; `tile_px` is the side of its tiles, else chosen from the free memory.

    Raises:
      UserError: `tile_px` is too small for the generator.
    """
    halo, _ = tiling.halo_px(params.architecture)
    if tile_px and tile_px < tiling.smallest_tile(halo):
        raise UserError(
            f"--tile {tile_px}: this generator looks {halo} px far, so {tiling.smallest_tile(halo)} or more"
        )
    chosen = (tile_px, tile_px) if tile_px else None
    chosen = chosen or tiling.choose_tile(sizes, halo, tiling.max_area(params), square=self_ensemble)
    return tiling.Tiler(params, chosen, say=say)


def announce(tiler: tiling.Tiler, planned: dict[Job, tuple[int, int]], size_of: SizeOf, say: Callable) -> None:
    """Says how large and how long, where a result has more than 100 megapixels."""
    large = {job: size for job, size in planned.items() if math.prod(size_of(*size)) > LARGE_PIXELS}
    if not large:
        return
    seconds = tiler.seconds_per_tile()
    for job, size in large.items():
        height, width = size_of(*size)
        say(f"{job.source}: {width} x {height} pixels, {height * width * 3 / 1e9:.1f} GB before compression, "
            f"about {tiler.count_tiles(size) * seconds / 60:.0f} min")  # fmt: skip


def decoded_ahead(
    planned: dict[Job, tuple[int, int]], max_pixels: int, executor: ThreadPoolExecutor, ahead: int
) -> Iterator[tuple[Job, Future]]:
    """Jobs with their pictures being decoded, a few ahead as far as the memory set aside goes."""
    waiting: collections.deque[tuple[Job, Future, int]] = collections.deque()
    for job, (height, width) in planned.items():
        size = 4 * height * width
        while waiting and (len(waiting) > ahead or size + sum(w[2] for w in waiting) > AHEAD_BYTES):
            yield waiting.popleft()[:2]
        waiting.append((job, executor.submit(images.read_image, job.source, max_pixels=max_pixels), size))
    yield from (entry[:2] for entry in waiting)


def upscale_files(
    jobs: Sequence[Job],
    params: Weights,
    size_of: SizeOf,
    *,
    quality: int = 95,
    overwrite: bool = False,
    strip: bool = False,
    drop_opaque_alpha: bool = False,
    self_ensemble: bool = False,
    max_pixels: int = images.MAX_PIXELS,
    tile_px: int | None = None,
    threads: int = 2,
    say: Callable[[str], None] = print,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Upscales files, with one compilation for all of them.

    Args:
      jobs: from `find_jobs`.
      params: the generator.
      size_of: from `target_size`.
      quality: of JPEG, WebP and AVIF.
      overwrite: replace results that are there; else their inputs are skipped.
      strip: leave out profile, EXIF and resolution.
      drop_opaque_alpha: leave out an alpha channel that is opaque everywhere.
      self_ensemble: average the results of the eight flips and rotations.
      max_pixels: refuse larger pictures.
      tile_px: side of the tiles in LR pixels; else chosen from the free memory.
      threads: that decode ahead of the device, and as many that encode behind it.
      say: gets lines for the user.
      progress: gets the LR pixels done and all there are.

    Returns:
      What became of each file. A file that can't be read or written never stops the others.

    Raises:
      UserError: `tile_px` is too small, or the memory doesn't suffice for the smallest tile.
    """
    planned, summary = plan(jobs, overwrite=overwrite, max_pixels=max_pixels)
    if not planned:
        return summary
    tiler = make_tiler(params, list(planned.values()), tile_px=tile_px, self_ensemble=self_ensemble, say=say)
    announce(tiler, planned, size_of, say)
    prepare = functools.partial(_prepared, size_of=size_of, strip=strip, drop_opaque_alpha=drop_opaque_alpha)
    tasks: collections.deque[Task] = collections.deque()
    with _executors(threads) as (decoders, encoders):
        ahead = decoded_ahead(planned, max_pixels, decoders, threads)
        frames = _frames(ahead, prepare, tasks, overwrite, summary, say)
        results = tiler.upscale(map(tiling.self_ensemble, frames) if self_ensemble else frames)
        results = _counted(results, progress, sum(map(math.prod, planned.values())), tiler.scale)
        writer = _Writer(encoders, threads, quality, summary)
        for _, first in results:
            task = tasks.popleft()
            others = (strips for _, strips in itertools.islice(results, len(task.picture.frames) - 1))
            writer.write(task, itertools.chain([first], others), size_of, tiler.scale)
        writer.close()
    if not tiler.exact:
        say(f"this generator looks farther than {tiler.halo_px} px: where tiles meet they differed by at most "
            f"{tiler.seam_difference:.1e} of the range")  # fmt: skip
    return summary


@contextlib.contextmanager
def _executors(threads: int) -> Iterator[tuple[ThreadPoolExecutor, ThreadPoolExecutor]]:
    pair = ThreadPoolExecutor(threads), ThreadPoolExecutor(threads)
    try:
        yield pair
    finally:
        for executor in pair:
            executor.shutdown(cancel_futures=True)


def _prepared(picture: images.Picture, job: Job, *, size_of: SizeOf, strip: bool, drop_opaque_alpha: bool):
    """The picture as it goes to the device, its target, and lines for the user."""
    if strip:
        picture = dataclasses.replace(picture, icc=None, exif=None, dpi=None)
    has_alpha = picture.shape[-1] in (2, 4)
    if drop_opaque_alpha and has_alpha and all(_is_opaque(frame) for frame in picture.frames):
        picture = dataclasses.replace(picture, frames=tuple(frame[..., :-1] for frame in picture.frames))
    return images.fit_format(picture, job.target, size_of(*picture.shape[:2]))


def _is_opaque(frame: np.ndarray) -> bool:
    return bool((frame[..., -1] == np.iinfo(frame.dtype).max).all())


def _frames(
    decoded: Iterable[tuple[Job, Future]],
    prepare: Callable,
    tasks: collections.deque[Task],
    overwrite: bool,
    summary: Summary,
    say: Callable[[str], None],
) -> Iterator[tiling.Source]:
    """Every frame of every picture that can be read; its task is put into `tasks` before its first frame."""
    for job, future in decoded:
        try:
            picture, target, notes = prepare(future.result(), job)
        except (images.ImageError, OSError, MemoryError) as error:
            summary.failed.append((job.source, images.reason(error)))
            continue
        for note in notes:
            say(f"{job.source}: {note}")
        if target != job.target and target.exists() and not overwrite:
            summary.skipped.append(Job(job.source, target))
            continue
        tasks.append(Task(job, picture, target))
        yield from map(tiling.from_array, picture.frames)


def _counted(results: Iterator, progress: Callable[[int, int], None], total: int, scale: int) -> Iterator:
    """The same results, telling `progress` as rows are done."""
    done = 0

    def counted(strips):
        nonlocal done
        for strip in strips:
            done += strip.shape[0] * strip.shape[1] // scale**2
            progress(done, max(total, done))
            yield strip

    for source, strips in results:
        yield source, counted(strips)


class _Writer:
    """Encodes results behind the device's back, holding no more of them than the memory set aside allows."""

    def __init__(self, executor: ThreadPoolExecutor, ahead: int, quality: int, summary: Summary):
        self._executor, self._ahead, self._quality, self._summary = executor, ahead, quality, summary
        self._waiting: collections.deque[tuple[Task, Future, int]] = collections.deque()

    def write(self, task: Task, frames: Iterator[Iterator[np.ndarray]], size_of: SizeOf, scale: int) -> None:
        """Takes all strips of all frames, and writes them now (TIFF, by rows) or later."""
        before = [frame.shape for frame in task.picture.frames]
        resized = (
            images.resize_rows(strips, (scale * shape[0], scale * shape[1], shape[2]), size_of(*shape[:2]))
            for strips, shape in zip(frames, before, strict=True)
        )
        try:
            if len(before) == 1 and task.target.suffix in images.TIFFS:
                shape, dtype = (*size_of(*before[0][:2]), before[0][2]), task.picture.frames[0].dtype
                images.write_tiff_rows(task.target, next(resized), shape, dtype, task.picture)
                self._summary.done.append(Job(task.job.source, task.target))
            else:
                whole = [np.concatenate(list(strips)) for strips in resized]
                picture = dataclasses.replace(task.picture, frames=tuple(whole))
                future = self._executor.submit(images.write_image, task.target, picture, quality=self._quality)
                self._waiting.append((task, future, sum(frame.nbytes for frame in whole)))
        except (OSError, ValueError, MemoryError) as error:
            self._summary.failed.append((task.job.source, images.reason(error)))
        collections.deque(frames, maxlen=0)  # what an error left
        while len(self._waiting) > self._ahead or sum(entry[2] for entry in self._waiting) > AHEAD_BYTES:
            self._settle()

    def close(self) -> None:
        """Waits for what is being encoded."""
        while self._waiting:
            self._settle()

    def _settle(self) -> None:
        task, future, _ = self._waiting.popleft()
        try:
            future.result()
            self._summary.done.append(Job(task.job.source, task.target))
        except Exception as error:  # Pillow's encoders raise nearly everything
            self._summary.failed.append((task.job.source, f"can't write {task.target}: {images.reason(error)}"))
