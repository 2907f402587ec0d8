"""Videos among the inputs of `srgan-jax upscale`."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from srgan_jax.cli import progress
from srgan_jax.runtime.errors import UserError
from srgan_jax.runtime.terminal import one_line

if TYPE_CHECKING:
    from srgan_jax.bulk import SizeOf
    from srgan_jax.weights import Weights


def separate_videos(inputs: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Returns the inputs that aren't videos, and the videos. Videos in folders are not among them.

    Patterns such as "*.mp4" are expanded.
    """
    from srgan_jax import bulk

    def is_video(name: str) -> bool:
        return Path(name).suffix.lower() in bulk.VIDEO_SUFFIXES and os.path.isfile(name)

    if all(inputs):  # an empty name is an error, which is reported later
        inputs = list(map(str, bulk.expand(inputs)))
    return [name for name in inputs if not is_video(name)], [Path(name) for name in inputs if is_video(name)]


def upscale_videos(
    args: argparse.Namespace, videos: Sequence[Path], generators: Sequence["Weights"], size_of: "SizeOf", suffix: str
) -> int:
    """Upscales videos one after another, prints a line for each, and returns the exit status: 1 where one failed."""
    from tqdm import tqdm

    from srgan_jax import bulk

    def report(line: str) -> None:
        tqdm.write(one_line(line), file=sys.stderr)

    jobs = bulk.find_video_jobs(videos, args.out, suffix, args.format, report)
    how = {"codec": args.codec, "crf": args.crf, "self_ensemble": args.self_ensemble}
    how |= {"max_pixels": int(args.max_pixels * 1e6), "max_seconds": args.max_seconds}
    names = bulk.VideoNames(jobs, size_of, generators, overwrite=args.overwrite, **how)
    failed = 0
    for job in jobs:
        video = job.source
        if os.path.exists(job.target) and os.path.samefile(video, job.target):
            raise UserError(f"the result would replace {job.target}; choose another folder, or add --suffix _x4")
        try:
            found, size = names.resolve(job)
        except Exception as error:  # whatever a file does, the others are upscaled
            print(_failure(video, error))
            failed += 1
            continue
        if found.instead_of:
            print("{}: named so because {} {}".format(found.target, *found.instead_of))
        if found.done:
            print(f"{video}: skipped, {found.target} is its result (--overwrite writes it again)")
        if args.dry_run and not found.done:
            after = size_of(*size)
            print(f"{video} {size[1]} x {size[0]} -> {found.target} {after[1] // 2 * 2} x {after[0] // 2 * 2}")
        if args.dry_run or found.done:
            continue
        bar = progress.Bar()
        try:
            with names.recorded(job, found.target, size):
                bulk.upscale_video(
                    video,
                    found.target,
                    generators,
                    size_of,
                    tile_px=args.tile_px,
                    report=report,
                    progress=bar,
                    **how,
                )
            print(f"1 video upscaled to {found.target}")
        except Exception as error:
            print(_failure(video, error))
            failed += 1
        except KeyboardInterrupt:
            print(f"{video}: interrupted; the same command continues after the last segment", file=sys.stderr)
            return 130
        finally:
            bar.close()
    return 1 if failed else 0


def _failure(video: Path, error: Exception) -> str:
    """Returns the line about a video that failed."""
    from srgan_jax import bulk

    named = isinstance(error, UserError) and str(video) in str(error)
    return one_line(f"1 video failed: {'' if named else f'{video}: '}{bulk.describe(error, video)}")
