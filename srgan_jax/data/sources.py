"""The sources of windows by name, for `config.data.source`.

A source is a function `(images, name, plan, config, report) -> Samples`. To add one, add such a function to `SOURCES`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from srgan_jax.config.schema import DataConfig
from srgan_jax.data import datasets, memory, skip_corrupt, stream
from srgan_jax.data.batch_plan import BatchPlan
from srgan_jax.data.feed import Samples
from srgan_jax.data.images import ImageArrays, Images
from srgan_jax.runtime import devices, processes
from srgan_jax.runtime.errors import UserError

Report = Callable[..., None]  # prints a line; with everywhere=True on every process


def open_memory(images: Images, name: str, plan: BatchPlan, config: DataConfig, report: Report) -> Samples:
    """Decodes all images once: into tiles on each device, or into host memory if the tiles don't fit on the device."""
    everywhere = functools.partial(report, everywhere=True)  # each process decodes different images
    images = skip_corrupt.ReadableImages(images, everywhere)
    crop_px = plan.window["crop_px"]
    unit = plan.scale if plan.is_paired else 1  # tiles of pairs are measured in LR pixels
    tiles = {"tile_px": config.tile_px // unit, "channels": plan.channels, **plan.window}
    kept, sizes, small = datasets.without_small(images, crop_px)
    for line in small:
        report(f"skipped {line}")
    found = f"data: {len(images)} images from {name}"
    sample_bytes = images[0].dtype.itemsize
    needed = sample_bytes * memory.store_bytes(sizes, **tiles)
    if needed <= config.device_share * (devices.memory_bytes() or devices.host_memory_bytes()):
        report(f"{found}, decoded once into {needed / 1e6:,.0f} MB of tiles on each device")
        return Samples(_build_store(images, **tiles), None)
    raw = sample_bytes * int(sizes.prod(axis=1).sum()) * plan.channels
    if raw > 0.8 * devices.host_memory_bytes():
        raise UserError(
            f"{name} needs {raw / 1e9:.1f} GB of host memory when decoded, expected at most "
            f"{0.8 * devices.host_memory_bytes() / 1e9:.1f} GB (80 % of this machine's); use "
            "--config.data.source=stream"
        )
    report(
        f"{found}, decoded once into {raw / 1e6:,.0f} MB of host memory ({needed / 1e6:,.0f} MB of tiles exceed "
        "config.data.device_share)"
    )
    return _from_host(datasets.decode_all(kept), plan, config)


def open_stream(images: Images, name: str, plan: BatchPlan, config: DataConfig, report: Report) -> Samples:
    """Decodes images on demand on the host, ahead of the updates."""
    everywhere = functools.partial(report, everywhere=True)  # each process reads different images
    images = skip_corrupt.ReadableImages(images, everywhere, plan.window["crop_px"])
    report(f"data: {len(images)} images from {name}, decoded on demand")
    return _from_host(images, plan, config)


SOURCES: Mapping[str, Callable[[Images, str, BatchPlan, DataConfig, Report], Samples]] = {
    "memory": open_memory,
    "stream": open_stream,
}


def _from_host(images: ImageArrays, plan: BatchPlan, config: DataConfig) -> Samples:
    local = devices.local_slice(plan.batch_size)
    windows = functools.partial(
        stream.stream_windows,
        images,
        indices=np.arange(local.start, local.stop, dtype=np.int32),
        batch_size=plan.batch_size,
        threads=config.threads or None,
        min_contrast=plan.min_contrast,
        **plan.window,
    )
    return Samples(None, lambda seed, steps: windows(seed=seed, steps=steps))


def _build_store(images: skip_corrupt.ReadableImages, *, crop_px: int, **options: int) -> dict[str, Any]:
    """Returns the tiles of all images that are large enough; starts again if decoding finds more corrupt images.

    Each process of a job decodes a part of the images; then all devices get the tiles of all.
    """
    count = jax.process_count()
    options |= {"part": jax.process_index(), "parts": count, "multiple": jax.local_device_count() if count > 1 else 1}
    while True:
        known = sorted(images.corrupt)
        kept, sizes, _ = datasets.without_small(images, crop_px)
        store = memory.build_store(kept, sizes, crop_px=crop_px, **options)
        found = processes.gather({"before": known, "now": list(images.corrupt.items())})
        images.corrupt |= {int(index): str(reason) for each in found for index, reason in each["now"]}
        if all(set(each["before"]) == images.corrupt.keys() for each in found):
            return {**store, "tiles": devices.gather_rows(store["tiles"])}
