"""The training data that a config describes, opened."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from srgan_jax.data import builder, datasets, feed, memory, skip_corrupt, stream
from srgan_jax.data.feed import Samples
from srgan_jax.runtime import atomic, devices, messages, processes
from srgan_jax.runtime.errors import UserError, lookup
from srgan_jax.training import batch_plan


def open_pictures(config: Any, workdir: Path) -> tuple[Sequence[np.ndarray], Sequence[np.ndarray]]:
    """The pictures to train on, and those of them that are held out; none where `config.validation` asks for none."""
    data, count = config.data, config.validation.hold_out
    keys = ("split", "feature", "lr_feature", "data_dir", "resize_px")
    if count and (config.validation.folder or data.lr_feature):
        raise UserError("config.validation.hold_out goes neither with validation.folder nor with data.lr_feature")
    if count:
        check_held_out(config, workdir)
    dataset = prepare_folder(data.folder, workdir, data.crop_px) if data.folder else data.dataset
    pictures = datasets.open_pictures(dataset, scale=config.generator.scale, **{key: data[key] for key in keys})
    if not count:
        return pictures, []
    pictures, held_out = datasets.hold_out(pictures, count, data.crop_px)
    messages.report(f"held out, never trained on: {', '.join(held_out.name(index) for index in range(len(held_out)))}")
    if len(held_out) < count:
        messages.report(f"{count} asked for by config.validation.hold_out, {len(held_out)} held out: a quarter at most")
    return pictures, held_out


def check_held_out(config: Any, workdir: Path) -> None:
    """Whether a run that goes on holds out what it held out before.

    Raises:
      UserError: it would hold out pictures that it was trained on.
    """
    file = Path(workdir, "config.json")
    before = json.loads(file.read_text()) if file.exists() else None
    for section, key in (("validation", "hold_out"), ("data", "crop_px")):
        then, now = before[section].get(key, 0) if before else config[section][key], config[section][key]
        if then != now:
            raise UserError(
                f"config.{section}.{key}={now}, but {workdir} was trained with {then}, perhaps on pictures that would "
                f"be held out now; give {then} again, or another --workdir"
            )


def prepare_folder(folder: str, workdir: Path, min_side_px: int) -> str:
    """A folder of pictures as a data set inside a run's folder, once; returns where it lies.

    Raises:
      UserError: the run's folder holds the data set of another folder.
    """
    source, out = str(Path(folder).expanduser().resolve()), Path(workdir, "dataset")
    note = out / "folder.txt"  # written last

    def prepare():
        if note.exists() and note.read_text() != source:
            raise UserError(f"{workdir} was trained on {note.read_text()}; for {source} use another --workdir")
        if not note.exists():
            messages.report(f"preparing {source}")
            for name, reason in builder.prepare(source, str(out), min_side_px=min_side_px).items():
                messages.report(f"skipped {name}: {reason}")
            atomic.write_text(note, source)

    processes.on_first(prepare)
    return str(out)


def open_samples(config: Any, pictures: Sequence[np.ndarray]) -> Samples:
    """The training data as its config describes it, with what it takes of memory reported before it is taken."""
    data = config.data
    lookup(dict.fromkeys(feed.SOURCES), data.source, "config.data.source")
    geometry = batch_plan.geometry(config)
    channels, unit = geometry.pop("channels"), config.generator.scale if data.lr_feature else 1  # pairs: LR pixels
    tiles = {"tile_px": data.tile_px // unit, "channels": channels, **geometry}
    small_px = geometry["crop_px"] if data.source == "stream" else 1  # tiles: known, and left out, before they are cut
    say = functools.partial(messages.report, everywhere=data.source == "stream")  # there each process meets its own
    pictures = skip_corrupt.Mended(pictures, say, small_px)
    name = data.folder or data.dataset
    found = f"data: {len(pictures)} pictures from {name}"
    if data.source == "memory":
        whole = pictures
        pictures, sizes, small = datasets.without_small(whole, geometry["crop_px"])
        for line in small:
            messages.report(f"skipped {line}")
        needed = memory.store_bytes(sizes, **tiles)
        room = data.device_share * (devices.memory_bytes() or devices.host_memory_bytes())
        if needed <= room:
            messages.report(f"{found}, decoded once into {needed / 1e6:,.0f} MB of tiles on each device")
            return Samples(_build_store(whole, **tiles), None)
        raw = int(sizes.prod(axis=1).sum()) * channels
        if raw > 0.8 * devices.host_memory_bytes():
            raise UserError(f"{name} takes {raw / 1e9:.1f} GB decoded; use --config.data.source=stream")
        messages.report(
            f"{found}, decoded once into {raw / 1e6:,.0f} MB of host memory ({needed / 1e6:,.0f} MB of tiles "
            f"exceed config.data.device_share)"
        )
        pictures = datasets.decode_all(pictures)
    else:
        messages.report(f"{found}, decoded as they are needed")
    if config.steps_per_call > 1:
        raise UserError(f"config.steps_per_call={config.steps_per_call} needs tiles on the device (config.data.source="
                        "memory, and room for them); use 1 where crops come from the host")  # fmt: skip
    share = devices.local_slice(data.batch_size)
    windows = functools.partial(
        stream.stream_windows,
        pictures,
        indices=np.arange(share.start, share.stop, dtype=np.int32),
        batch_size=data.batch_size,
        threads=data.threads or None,
        **geometry,
    )
    return Samples(None, lambda seed, steps: windows(seed=seed, steps=steps))


def _build_store(pictures: skip_corrupt.Mended, *, crop_px: int, **options: int) -> dict[str, np.ndarray]:
    """The tiles of the pictures that are large enough; again where some turned out to be damaged when decoded."""
    while True:
        known = len(pictures.damaged)
        kept, sizes, _ = datasets.without_small(pictures, crop_px)
        store = memory.build_store(kept, sizes, crop_px=crop_px, **options)
        if len(pictures.damaged) == known:
            return store
