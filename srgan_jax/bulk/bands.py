"""Upscaling of files by networks of other channels than gray or RGB, such as satellite images of many bands."""

from collections.abc import Callable, Mapping

import numpy as np

from srgan_jax import images, inference
from srgan_jax.bulk import failures
from srgan_jax.bulk.jobs import Job
from srgan_jax.bulk.sizes import SizeOf
from srgan_jax.bulk.writer import Summary
from srgan_jax.runtime.atomic import atomic_file
from srgan_jax.runtime.errors import UserError


def upscale_bands(
    planned: Mapping[Job, tuple[int, int]],
    chain: inference.Chain,
    size_of: SizeOf,
    summary: Summary,
    max_pixels: int,
    progress: Callable[[int, int], None],
) -> Summary:
    """Upscales the first frame of each file, whose bands are the channels of the network, to a TIFF or PNG.

    Metadata isn't kept, and the size is the network's.

    Args:
      planned: height and width of each job's input.
      chain: the generators.
      size_of: from `target_size`.
      summary: gets the outcome of each file.
      max_pixels: larger inputs fail.
      progress: gets the number of LR pixels done and their total.

    Returns:
      `summary`.
    """
    done, total = 0, sum(height * width for height, width in planned.values())
    for job, (height, width) in planned.items():
        try:
            _check(job, (height, width), size_of, chain)
            image = images.decode_bands(job.source, images.Bands(chain.tilers[0].channels, 0), max_pixels=max_pixels)
            ((_, result),) = ((tiled, list(strips)) for tiled, strips in chain.upscale([image]))
            with atomic_file(job.target) as temporary:
                images.write_bands(temporary, np.concatenate(result))
            summary.done.append(job)
            summary.pixels += height * width
        except Exception as error:  # whatever a file does, the others are done
            summary.failed.append((job.source, failures.describe(error, job.source)))
        done += height * width
        progress(done, total)
    return summary


def _check(job: Job, size: tuple[int, int], size_of: SizeOf, chain: inference.Chain) -> None:
    channels, scale = chain.tilers[0].channels, chain.scale
    formats = images.TIFFS if channels > images.PNG_BANDS else (*images.TIFFS, ".png")
    if job.target.suffix.lower() not in formats:
        raise UserError(
            f"{job.target}: images of {channels} bands are written as {' or '.join(formats)}; add --format tif"
        )
    if size_of(*size) != (size[0] * scale, size[1] * scale):
        raise UserError(
            f"images of {channels} bands are upscaled by {scale}, the generator's scale, only; leave out "
            "--scale, --width and the other options of the size"
        )
