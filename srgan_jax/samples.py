"""Where the crops of an update come from, and the pictures that are looked at during training."""

import functools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from srgan_jax import color, devices, evaluate, logs, stages
from srgan_jax.data import builder, mending, pairs, pipeline, sampling
from srgan_jax.errors import UserError, lookup

HELD_OUT_PX = 1024  # of pictures that are held out, the middle of so many pixels a side is looked at


class Feed:
    """The windows of the updates to come; tells when the updates wait for them."""

    EVERY = 8  # updates of which one is measured: waiting for the device first costs a little
    SHARE = 0.1  # of the time: waiting that is told

    def __init__(self, windows: Iterator[np.ndarray], draws: int):
        self._windows, self._draws, self._told = windows, draws, False
        self._begin()

    def _begin(self) -> None:
        self._began, self._count, self._waits = time.perf_counter(), 0, []

    def take(self, running: Any) -> np.ndarray:
        """The windows `[B, draws, ...]` of the next update; `running` are results of the one before."""
        self._count += 1
        measured = self._count % self.EVERY == 0
        if measured:  # otherwise the device may still be busy, and nothing is lost by waiting
            jax.block_until_ready(running)
        began = time.perf_counter()
        windows = np.stack([next(self._windows) for _ in range(self._draws)], 1)
        if measured:
            self._waits.append(time.perf_counter() - began)
        return windows

    def line(self) -> str | None:
        """What to say about the updates since the last call that gave an answer; None most of the time."""
        if not self._waits:
            return None
        each = (time.perf_counter() - self._began) / self._count
        share = sum(self._waits) / len(self._waits) / each
        told, self._told = self._told, share > self.SHARE
        self._begin()
        if self._told and not told:
            return (
                f"the updates wait for their pictures {min(share, 1):.0%} of the time: decoding is the limit here; "
                "config.data.source=memory decodes once, more cores (config.data.threads) decode faster"
            )
        return "the updates no longer wait for their pictures" if told and not self._told else None


class Samples(NamedTuple):
    """Where the crops of an update come from."""

    store: Any  # tiles to live on the devices, or None
    windows: Callable[[np.ndarray, range], Iterator[np.ndarray]] | None  # else: (seed, steps) -> windows of each step

    def feed(self, state: Any, step: int, total: int, draws: int) -> Feed | None:
        """The windows of the updates after `step`, `draws` for each; None where crops are cut on the devices."""
        if self.windows is None:
            return None
        seed = sampling.salted(np.asarray(state.seed), np.asarray(state.health.rollbacks))
        return Feed(self.windows(np.asarray(seed), range(step * draws, total * draws)), draws)


def open_pictures(config: Any, workdir: Path) -> tuple[Sequence[np.ndarray], Sequence[np.ndarray]]:
    """The pictures to train on, and those of them that are held out; none where `config.validation` asks for none."""
    data, count = config.data, config.validation.hold_out
    keys = ("split", "feature", "lr_feature", "data_dir", "resize_px")
    if count and (config.validation.folder or data.lr_feature):
        raise UserError("config.validation.hold_out goes neither with validation.folder nor with data.lr_feature")
    if count:
        check_held_out(config, workdir)
    dataset = prepare_folder(data.folder, workdir, data.crop_px) if data.folder else data.dataset
    pictures = pairs.open_pictures(dataset, scale=config.generator.scale, **{key: data[key] for key in keys})
    if not count:
        return pictures, []
    pictures, held_out = pairs.hold_out(pictures, count, data.crop_px)
    logs.say(f"held out, never trained on: {', '.join(held_out.name(index) for index in range(len(held_out)))}")
    if len(held_out) < count:
        logs.say(f"{count} asked for by config.validation.hold_out, {len(held_out)} held out: a quarter at most")
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
            logs.say(f"preparing {source}")
            for name, reason in builder.prepare(source, str(out), min_side_px=min_side_px).items():
                logs.say(f"skipped {name}: {reason}")
            note.write_text(source)

    devices.on_first(prepare)
    return str(out)


def open_samples(config: Any, pictures: Sequence[np.ndarray]) -> Samples:
    """The training data as its config describes it, with what it takes of memory reported before it is taken."""
    data = config.data
    lookup(dict.fromkeys(pipeline.SOURCES), data.source, "config.data.source")
    geometry = stages.geometry(config)
    channels, unit = geometry.pop("channels"), config.generator.scale if data.lr_feature else 1  # pairs: LR pixels
    tiles = {"tile_px": data.tile_px // unit, "channels": channels, **geometry}
    small_px = geometry["crop_px"] if data.source == "stream" else 1  # tiles: known, and left out, before they are cut
    say = functools.partial(logs.say, everywhere=data.source == "stream")  # there each process meets its own
    pictures = mending.Mended(pictures, say, small_px)
    name = data.folder or data.dataset
    found = f"data: {len(pictures)} pictures from {name}"
    if data.source == "memory":
        whole = pictures
        pictures, sizes, small = pipeline.without_small(whole, geometry["crop_px"])
        for line in small:
            logs.say(f"skipped {line}")
        needed = pipeline.store_bytes(sizes, **tiles)
        room = data.device_share * (devices.memory_bytes() or pipeline.host_memory_bytes())
        if needed <= room:
            logs.say(f"{found}, decoded once into {needed / 1e6:,.0f} MB of tiles on each device")
            return Samples(_build_store(whole, **tiles), None)
        raw = int(sizes.prod(axis=1).sum()) * channels
        if raw > 0.8 * pipeline.host_memory_bytes():
            raise UserError(f"{name} takes {raw / 1e9:.1f} GB decoded; use --config.data.source=stream")
        logs.say(f"{found}, decoded once into {raw / 1e6:,.0f} MB of host memory ({needed / 1e6:,.0f} MB of tiles "
                 f"exceed config.data.device_share)")  # fmt: skip
        pictures = pipeline.decode_all(pictures)
    else:
        logs.say(f"{found}, decoded as they are needed")
    if config.steps_per_call > 1:
        raise UserError(f"config.steps_per_call={config.steps_per_call} needs tiles on the device (config.data.source="
                        "memory, and room for them); use 1 where crops come from the host")  # fmt: skip
    share = devices.local_slice(data.batch_size)
    windows = functools.partial(
        pipeline.stream_windows,
        pictures,
        indices=np.arange(share.start, share.stop, dtype=np.int32),
        batch_size=data.batch_size,
        threads=data.threads or None,
        **geometry,
    )
    return Samples(None, lambda seed, steps: windows(seed=seed, steps=steps))


def _build_store(pictures: mending.Mended, *, crop_px: int, **options: int) -> dict[str, np.ndarray]:
    """The tiles of the pictures that are large enough; again where some turned out to be damaged when decoded."""
    while True:
        known = len(pictures.damaged)
        kept, sizes, _ = pipeline.without_small(pictures, crop_px)
        store = pipeline.build_store(kept, sizes, crop_px=crop_px, **options)
        if len(pictures.damaged) == known:
            return store


def read_validation(config: Any, held_out: Sequence[np.ndarray] = ()) -> list[evaluate.Pair]:
    """The validation pictures: those of the config's folder, or the middles of those held out; none without either."""
    folder, scale = config.validation.folder, config.generator.scale
    if folder:
        found = evaluate.read_pairs(folder, scale)
    else:
        found = [evaluate.make_pair(f"held out {index}", _middle(hr), scale) for index, hr in enumerate(held_out)]
    evaluate.check_sizes(found, config.validation.metrics)
    return _as_validated(config, found)


def _as_validated(config: Any, found: list[evaluate.Pair]) -> list[evaluate.Pair]:
    """The pairs with the LR that training sees, where the config asks for it."""
    return evaluate.degrade_pairs(found, stages.degradation(config)) if config.validation.degraded else found


def _middle(picture: np.ndarray) -> np.ndarray:
    corner = [max(0, side - HELD_OUT_PX) // 2 for side in picture.shape[:2]]
    return picture[corner[0] : corner[0] + HELD_OUT_PX, corner[1] : corner[1] + HELD_OUT_PX].copy()


def sample_pairs(config: Any, validation: list[evaluate.Pair], samples: Samples) -> list[evaluate.Pair]:
    """A few crops to look at during training: the middle of validation pictures, or crops of the training data."""
    scale, count = config.generator.scale, config.sample_pictures
    if not count:
        return []
    if not validation:
        return training_samples(config, samples)[:count]
    side = min(192, *(min(pair.hr.shape[:2]) for pair in validation[:count])) // scale * scale
    corners = [((p.hr.shape[0] - side) // 2, (p.hr.shape[1] - side) // 2) for p in validation[:count]]
    crops = [p.hr[y : y + side, x : x + side] for p, (y, x) in zip(validation, corners, strict=False)]
    pairs_of_crops = [evaluate.make_pair(f"sample {index}", crop, scale) for index, crop in enumerate(crops)]
    return _as_validated(config, pairs_of_crops)


def training_samples(config: Any, samples: Samples) -> list[evaluate.Pair]:
    """The samples of the first update, with the LR images that training sees."""
    seed = jax.random.key_data(jax.random.key(config.seed))
    indices = np.arange(config.data.batch_size, dtype=np.int32)
    windows = None
    if samples.store is None:
        windows = next(samples.windows(np.asarray(seed), range(0, 1)))
        indices = indices[: len(windows)]
    batch = jax.jit(functools.partial(stages.make_batch, config))(seed, 0, indices, samples.store, windows)
    hr, lr = (np.asarray(color.to_uint8(batch[name])) for name in ("hr", "lr"))
    return [evaluate.Pair(f"sample {index}", hr[index], lr[index]) for index in range(len(hr))]
