"""Upscaling files: decoding ahead of the device, encoding behind it, one bad file never stopping the rest."""

import collections
import contextlib
import dataclasses
import functools
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from srgan_jax import images, inference
from srgan_jax.bulk.jobs import Job, SizeOf, other_name
from srgan_jax.bulk.writer import AHEAD_BYTES, DeviceError, Progress, Summary, Task, Writer, from_device
from srgan_jax.runtime.errors import UserError
from srgan_jax.weights import Weights

LARGE_PIXELS = 100_000_000  # of a result: size and time are told first


def plan(
    jobs: Iterable[Job], size_of: SizeOf, *, overwrite: bool, max_pixels: int
) -> tuple[dict[Job, tuple[int, int]], Summary]:
    """What is left to do, with the heights and widths of the pictures; the rest stands in the summary."""
    planned, summary = {}, Summary()
    for job in jobs:
        try:
            if os.path.isfile(job.target) and not overwrite:
                summary.skip(job, size_of)
                continue
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
) -> inference.Tiler:
    """A `Tiler` for pictures of these sizes; `tile_px` is the side of its tiles, else chosen from the free memory.

    Raises:
      UserError: `tile_px` is too small for the generator.
    """
    halo, _ = inference.halo_px(params.architecture)
    if tile_px and tile_px < inference.smallest_tile(halo):
        raise UserError(
            f"--tile {tile_px}: this generator looks {halo} px far, so {inference.smallest_tile(halo)} or more"
        )
    chosen = (tile_px, tile_px) if tile_px else None
    chosen = chosen or inference.choose_tile(sizes, halo, inference.max_area(params), square=self_ensemble)
    return inference.Tiler(params, chosen, report=say)


def announce(
    tiler: inference.Tiler, planned: dict[Job, tuple[int, int]], size_of: SizeOf, say: Callable, passes: int
) -> None:
    """Says how large and how long, where a result has more than 100 megapixels; each tile takes `passes`."""
    large = {job: size for job, size in planned.items() if math.prod(size_of(*size)) > LARGE_PIXELS}
    if not large:
        return
    seconds = tiler.seconds_per_tile()
    for job, size in large.items():
        height, width = size_of(*size)
        say(f"{job.source}: {width} x {height} pixels, {height * width * 3 / 1e9:.1f} GB before compression, "
            f"about {tiler.count_tiles(size) * passes * seconds / 60:.0f} min")  # fmt: skip


def decoded_ahead(
    planned: dict[Job, tuple[int, int]], max_pixels: int, executor: ThreadPoolExecutor, *, ahead: int
) -> Iterator[tuple[Job, Future]]:
    """Jobs with their pictures being decoded, a few ahead as far as the memory set aside goes."""
    waiting: collections.deque[tuple[Job, Future, int]] = collections.deque()
    for job, (height, width) in planned.items():
        size = 4 * height * width
        while waiting and (len(waiting) > ahead or size + sum(w[2] for w in waiting) > AHEAD_BYTES):
            yield waiting.popleft()[:2]
        waiting.append((job, executor.submit(images.decode_image, job.source, max_pixels=max_pixels), size))
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
      strip, drop_opaque_alpha: leave out profile, EXIF and resolution; alpha channels that are opaque everywhere.
      self_ensemble: average the results of the eight flips and rotations.
      max_pixels, tile_px: of a picture, else it is refused; side of the tiles, else chosen from the free memory.
      threads: that decode ahead of the device, and as many that encode behind it.
      say: gets lines for the user.
      progress: gets the LR pixels done and all there are.

    Returns:
      What became of each file. One that can't be read or written never stops the others; where the device fails, those
      that are left are listed as failed.

    Raises:
      UserError: `tile_px` is too small.
    """
    planned, summary = plan(jobs, size_of, overwrite=overwrite, max_pixels=max_pixels)
    if not planned:
        return summary
    tiler = make_tiler(params, list(planned.values()), tile_px=tile_px, self_ensemble=self_ensemble, say=say)
    announce(tiler, planned, size_of, say, 8 if self_ensemble else 1)
    prepare = functools.partial(_prepared, strip=strip, drop_opaque_alpha=drop_opaque_alpha, taken=_taken(jobs))
    decode = functools.partial(decoded_ahead, planned, max_pixels, ahead=threads)
    told = Progress(progress, planned)
    with _executors(threads) as (decoders, encoders):
        tasks: collections.deque[Task] = collections.deque()
        frames = _frames(decode(decoders), prepare, size_of, tasks, overwrite, summary, say, told)
        results = from_device(tiler.upscale(map(inference.self_ensemble, frames) if self_ensemble else frames))
        writer = Writer(encoders, threads, quality, summary)
        try:
            _write_all(results, tasks, writer, told, size_of, tiler.scale)
        except DeviceError as error:
            _give_up(planned, summary, str(error))
    if not tiler.exact:
        say(f"this generator looks farther than {tiler.halo_px} px: where tiles meet they differed by at most "
            f"{tiler.seam_difference:.1e} of the range")  # fmt: skip
    return summary


def _write_all(
    results: Iterator, tasks: collections.deque[Task], writer: Writer, told: Progress, size_of: SizeOf, scale: int
) -> None:
    """Takes the results of all frames of all pictures to the writer, and waits for it whatever happens."""
    try:
        for _, first in results:
            task = tasks.popleft()
            others = (strips for _, strips in itertools.islice(results, len(task.picture.frames) - 1))
            counted = told.count(itertools.chain([first], others), task, scale)
            writer.write(task, counted, size_of, scale)
    finally:
        writer.close()


@contextlib.contextmanager
def _executors(threads: int) -> Iterator[tuple[ThreadPoolExecutor, ThreadPoolExecutor]]:
    pair = ThreadPoolExecutor(threads), ThreadPoolExecutor(threads)
    try:
        yield pair
    finally:
        for executor in pair:
            executor.shutdown(cancel_futures=True)


def _taken(jobs: Sequence[Job]) -> set[str]:
    """Every file that is read or planned to be written."""
    return {os.path.realpath(path) for job in jobs for path in job}


def _prepared(
    picture: images.Picture, job: Job, size_of: SizeOf, *, strip: bool, drop_opaque_alpha: bool, taken: set[str]
) -> tuple[images.Picture, Path, list[str]]:
    """The picture as it goes to the device, its target, and lines for the user."""
    if strip:
        picture = dataclasses.replace(picture, icc=None, exif=None, dpi=None)
    if drop_opaque_alpha and all(frame.shape[-1] in (2, 4) and _is_opaque(frame) for frame in picture.frames):
        picture = dataclasses.replace(picture, frames=tuple(frame[..., :-1] for frame in picture.frames))
    picture, target, notes = images.fit_format(picture, job.target, size_of)
    if target != job.target:
        target = _free_name(target, job.source, taken)
    return picture, target, notes


def _free_name(target: Path, source: Path, taken: set[str]) -> Path:
    """`target`, under another name where that one is read or written by this run; it is then taken too."""
    wanted, number = target, 2
    if os.path.realpath(target) in taken:
        target = wanted = other_name(target, source)
    while os.path.realpath(target) in taken:
        target, number = wanted.with_name(f"{wanted.stem}_{number}{wanted.suffix}"), number + 1
    taken.add(os.path.realpath(target))
    return target


def _is_opaque(frame: np.ndarray) -> bool:
    return bool((frame[..., -1] == np.iinfo(frame.dtype).max).all())


def _frames(
    decoded: Iterable[tuple[Job, Future]],
    prepare: Callable,
    size_of: SizeOf,
    tasks: collections.deque[Task],
    overwrite: bool,
    summary: Summary,
    say: Callable[[str], None],
    told: Progress,
) -> Iterator[inference.TiledImage]:
    """Every frame of every picture that can be read; its task is put into `tasks` before its first frame."""
    for job, future in decoded:
        try:
            picture, target, notes = prepare(future.result(), job, size_of)
        except (images.ImageError, OSError, MemoryError) as error:
            summary.failed.append((job.source, images.reason(error)))
            told.leave_out(job)
            continue
        for note in notes:
            say(f"{job.source}: {note}")
        if target != job.target and os.path.isfile(target) and not overwrite:
            summary.skip(Job(job.source, target), size_of)
            told.leave_out(job)
            continue
        tasks.append(Task(job, picture, target))
        yield from map(inference.from_array, picture.frames)


def _give_up(planned: Iterable[Job], summary: Summary, why: str) -> None:
    """Lists all that has not been done as failed."""
    known = {job.source for job in (*summary.done, *summary.skipped)} | {path for path, _ in summary.failed}
    summary.failed += [(job.source, f"not upscaled: {why}") for job in planned if job.source not in known]
