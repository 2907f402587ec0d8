"""Upscales files: threads decode and encode while the device computes; a file that fails never stops the others."""

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
from srgan_jax.bulk.bands import upscale_bands
from srgan_jax.bulk.jobs import Job, SizeOf, name_with_format
from srgan_jax.bulk.writer import QUEUE_BYTES, DeviceError, Progress, Summary, Task, Writer, wrap_device_errors
from srgan_jax.runtime.errors import UserError
from srgan_jax.weights import Weights

LARGE_PIXELS = 100_000_000  # results with more pixels are reported first, with size and estimated time


def plan(
    jobs: Iterable[Job], size_of: SizeOf, *, overwrite: bool, max_pixels: int
) -> tuple[dict[Job, tuple[int, int]], Summary]:
    """Returns the jobs to do with the heights and widths of their inputs, and a summary of the others."""
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
    report: Callable[[str], None] = print,
) -> inference.Tiler:
    """Returns a `Tiler` for images of these sizes.

    Args:
      params: the generator.
      sizes: heights and widths of the inputs.
      tile_px: side of the tiles in LR pixels; None chooses it by the free memory.
      self_ensemble: whether images will be flipped and rotated; tiles are then square.
      report: gets lines for the user.

    Raises:
      UserError: `tile_px` is too small for the generator.
    """
    (halo, _), period = inference.halo_px(params.architecture), inference.period_px(params.architecture)
    if tile_px and tile_px < (smallest := inference.smallest_tile(halo, period)):
        raise UserError(
            f"--tile {tile_px}: expected {smallest} or more, because this generator needs a halo of {halo} px"
        )
    chosen = (tile_px, tile_px) if tile_px else None
    chosen = chosen or inference.choose_tile(sizes, halo, inference.max_area(params), self_ensemble, period)
    return inference.Tiler(params, chosen, report=report)


def make_chain(
    generators: Sequence[Weights],
    sizes: Sequence[tuple[int, int]],
    *,
    tile_px: int | None,
    self_ensemble: bool,
    report: Callable[[str], None],
) -> inference.Chain:
    """Returns the chain of these generators, for images of these sizes; see `make_tiler`."""
    tilers = []
    for params in generators:
        options = {"tile_px": tile_px, "self_ensemble": self_ensemble, "report": report}
        tilers.append(make_tiler(params, sizes, **options))
        sizes = [(params.scale * height, params.scale * width) for height, width in sizes]
    return inference.Chain(tilers, ensemble=self_ensemble)


def report_large(
    chain: inference.Chain, planned: dict[Job, tuple[int, int]], size_of: SizeOf, report: Callable
) -> None:
    """Reports size and estimated time of each result with more than 100 megapixels."""
    large = {job: size for job, size in planned.items() if math.prod(size_of(*size)) > LARGE_PIXELS}
    for job, size in large.items():
        height, width = size_of(*size)
        report(f"{job.source}: {width} x {height} pixels, {height * width * 3 / 1e9:.1f} GB before compression, "
            f"about {chain.seconds(size) / 60:.0f} min")  # fmt: skip


def decode_ahead(
    planned: dict[Job, tuple[int, int]], max_pixels: int, executor: ThreadPoolExecutor, *, ahead: int
) -> Iterator[tuple[Job, Future]]:
    """Yields jobs with the futures of their decoded images; up to `ahead` images, or QUEUE_BYTES, are decoded ahead."""
    waiting: collections.deque[tuple[Job, Future, int]] = collections.deque()
    for job, (height, width) in planned.items():
        size = 4 * height * width
        while waiting and (len(waiting) > ahead or size + sum(w[2] for w in waiting) > QUEUE_BYTES):
            yield waiting.popleft()[:2]
        waiting.append((job, executor.submit(images.decode_image, job.source, max_pixels=max_pixels), size))
    yield from (entry[:2] for entry in waiting)


def upscale_files(
    jobs: Sequence[Job],
    params: Weights | Sequence[Weights],
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
    report: Callable[[str], None] = print,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Upscales files, with one compilation for all of them.

    Args:
      jobs: from `find_jobs`.
      params: the generator, or several that are applied one after another.
      size_of: from `target_size`.
      quality: of JPEG, WebP and AVIF, 1 to 100.
      overwrite: replace existing results; False skips their inputs.
      strip: drop colour profile, EXIF and resolution.
      drop_opaque_alpha: drop alpha channels that are opaque everywhere.
      self_ensemble: average the results of the eight flips and rotations.
      max_pixels: larger inputs fail.
      tile_px: side of the tiles in LR pixels; None chooses it by the free memory.
      threads: number of decoding threads, and of encoding threads.
      report: gets lines for the user.
      progress: gets the number of LR pixels done and their total.

    Returns:
      The outcome of each file. A file that can't be read or written never stops the others. If the device fails, the
      remaining files are listed as failed.

    Raises:
      UserError: `tile_px` is too small.
    """
    planned, summary = plan(jobs, size_of, overwrite=overwrite, max_pixels=max_pixels)
    if not planned:
        return summary
    generators, sizes = [params] if isinstance(params, Weights) else params, list(planned.values())
    chain = make_chain(generators, sizes, tile_px=tile_px, self_ensemble=self_ensemble, report=report)
    if chain.tilers[0].channels not in (1, 3):
        return upscale_bands(planned, chain, size_of, summary, max_pixels, progress)
    report_large(chain, planned, size_of, report)
    prepare = functools.partial(_prepare, strip=strip, drop_opaque_alpha=drop_opaque_alpha, used=_used_paths(jobs))
    decode = functools.partial(decode_ahead, planned, max_pixels, ahead=threads)
    counter = Progress(progress, planned)
    with _executors(threads) as (decoders, encoders):
        tasks: collections.deque[Task] = collections.deque()
        frames = _frames(decode(decoders), prepare, size_of, tasks, overwrite, summary, report, counter)
        results = wrap_device_errors(chain.upscale(frames))
        writer = Writer(encoders, threads, quality, summary)
        try:
            _write_all(results, tasks, writer, counter, size_of, chain.scale)
        except DeviceError as error:
            _mark_remaining_failed(planned, summary, str(error))
    _report_seams(chain, report)
    return summary


def _report_seams(chain: inference.Chain, report: Callable[[str], None]) -> None:
    """Reports the halo and the difference at seams for each generator whose receptive field exceeds its halo."""
    for tiler in chain.tilers:
        if tiler.seam_difference is not None:
            report(
                f"the receptive field of {tiler.name} exceeds the halo of {tiler.halo_px} px around its tiles: "
                f"neighbouring tiles differed by at most {tiler.seam_difference:.2g} at their seams (values are 0 to "
                "1); between seams they may differ from the whole image by a few times as much"
            )


def _write_all(
    results: Iterator, tasks: collections.deque[Task], writer: Writer, counter: Progress, size_of: SizeOf, scale: int
) -> None:
    """Passes the results of all frames of all images to the writer, and always closes the writer."""
    try:
        for _, first in results:
            task = tasks.popleft()
            others = (strips for _, strips in itertools.islice(results, len(task.picture.frames) - 1))
            counted = counter.count(itertools.chain([first], others), task, scale)
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


def _used_paths(jobs: Sequence[Job]) -> set[str]:
    """Returns the real paths of all files that are read or planned to be written."""
    return {os.path.realpath(path) for job in jobs for path in job}


def _prepare(
    picture: images.Picture, job: Job, size_of: SizeOf, *, strip: bool, drop_opaque_alpha: bool, used: set[str]
) -> tuple[images.Picture, Path, list[str]]:
    """Returns the image adapted to the options and the output format, its target, and lines for the user."""
    if strip:
        picture = dataclasses.replace(picture, icc=None, exif=None, dpi=None)
    if drop_opaque_alpha and all(frame.shape[-1] in (2, 4) and _is_opaque(frame) for frame in picture.frames):
        picture = dataclasses.replace(picture, frames=tuple(frame[..., :-1] for frame in picture.frames))
    picture, target, notes = images.fit_format(picture, job.target, size_of)
    if target != job.target:
        target = _unused_name(target, job.source, used)
    return picture, target, notes


def _unused_name(target: Path, source: Path, used: set[str]) -> Path:
    """Returns `target`, renamed if this run reads or writes that path; adds the result to `used`."""
    base, number = target, 2
    if os.path.realpath(target) in used:
        target = base = name_with_format(target, source)
    while os.path.realpath(target) in used:
        target, number = base.with_name(f"{base.stem}_{number}{base.suffix}"), number + 1
    used.add(os.path.realpath(target))
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
    report: Callable[[str], None],
    counter: Progress,
) -> Iterator[np.ndarray]:
    """Yields all frames of all readable images; appends the task of each image to `tasks` before its first frame."""
    for job, future in decoded:
        try:
            picture, target, notes = prepare(future.result(), job, size_of)
        except (images.ImageError, OSError, MemoryError) as error:
            summary.failed.append((job.source, images.reason(error)))
            counter.skip(job)
            continue
        for note in notes:
            report(f"{job.source}: {note}")
        if target != job.target and os.path.isfile(target) and not overwrite:
            summary.skip(Job(job.source, target), size_of)
            counter.skip(job)
            continue
        tasks.append(Task(job, picture, target))
        yield from picture.frames


def _mark_remaining_failed(planned: Iterable[Job], summary: Summary, why: str) -> None:
    """Adds all jobs without an outcome to `summary.failed`."""
    known = {job.source for job in (*summary.done, *summary.skipped)} | {path for path, _ in summary.failed}
    summary.failed += [(job.source, f"not upscaled: {why}") for job in planned if job.source not in known]
