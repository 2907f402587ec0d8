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
    """Returns the inputs that aren't videos, and the videos. Videos in folders are not among them."""
    from srgan_jax import bulk

    def is_video(name: str) -> bool:
        return Path(name).suffix.lower() in bulk.VIDEO_SUFFIXES and os.path.isfile(name)

    return [name for name in inputs if not is_video(name)], [Path(name) for name in inputs if is_video(name)]


def upscale_videos(
    args: argparse.Namespace, videos: Sequence[Path], generators: Sequence["Weights"], size_of: "SizeOf", suffix: str
) -> int:
    """Upscales videos one after another, prints a line for each, and returns the exit status: 1 where one failed."""
    from tqdm import tqdm

    from srgan_jax import bulk

    if len(videos) > 1 and args.out and Path(args.out).suffix.lower() in bulk.VIDEO_SUFFIXES:
        raise UserError(f"-o {args.out} is the name of one video; expected a folder for {len(videos)} videos")
    failed = 0
    for video in videos:
        target = bulk.video_target(video, args.out, suffix)
        if os.path.exists(target) and os.path.samefile(video, target):
            raise UserError(f"the result would replace {target}; choose another folder, or add --suffix _x4")
        if args.dry_run or (target.exists() and not args.overwrite):
            print(f"{video} -> {target}" if args.dry_run else f"{target} exists already (--overwrite writes it again)")
            continue
        bar = progress.Bar()
        try:
            bulk.upscale_video(
                video,
                target,
                generators,
                size_of,
                codec=args.codec,
                crf=args.crf,
                self_ensemble=args.self_ensemble,
                tile_px=args.tile_px,
                max_pixels=int(args.max_pixels * 1e6),
                report=lambda line: tqdm.write(line, file=sys.stderr),
                progress=bar,
            )
            print(f"1 video upscaled to {target}")
        except Exception as error:  # whatever a file does, the others are upscaled
            named = isinstance(error, UserError) and str(video) in str(error)
            print(one_line(f"1 video failed: {'' if named else f'{video}: '}{bulk.describe(error, video)}"))
            failed += 1
        except KeyboardInterrupt:
            print(f"{video}: interrupted; the same command continues after the last segment", file=sys.stderr)
            return 130
        finally:
            bar.close()
    return 1 if failed else 0
