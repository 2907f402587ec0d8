"""Opening the images of a run: preparation, the validation split, and the source of training samples."""

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path

from srgan_jax.config import recorded
from srgan_jax.config.schema import DataConfig, ValidationConfig
from srgan_jax.data import builder, datasets
from srgan_jax.data.batch_plan import BatchPlan
from srgan_jax.data.builder import DatasetError
from srgan_jax.data.feed import Samples
from srgan_jax.data.images import ImageArrays, Images
from srgan_jax.data.sources import SOURCES
from srgan_jax.images import RGB, Bands
from srgan_jax.images.paired_folders import find_layout
from srgan_jax.runtime import atomic, messages, processes, storage
from srgan_jax.runtime.errors import UserError
from srgan_jax.runtime.json_files import read_object
from srgan_jax.training.bands import bands_of
from srgan_jax.training.image_folder import prepare_folder

HELD_OUT = "held_out.json"  # in the folder of a run: digest -> name of each held-out image


def open_images(
    data: DataConfig, validation: ValidationConfig, plan: BatchPlan, workdir: Path
) -> tuple[Images, ImageArrays]:
    """Returns the training images, and the validation images held out from them: none if `hold_out` is 0."""
    count = validation.hold_out
    if count and (validation.folder or data.lr_from_original):
        raise UserError(
            f"config.validation.hold_out={count}: expected 0 with config.validation.folder or "
            "config.data.lr_from_original"
        )
    if count and validation.degraded and data.lr:
        raise UserError(
            "config.validation.degraded=True: expected False for a paired data set, whose held-out images have their LR"
        )
    if count:
        check_held_out(count, data.crop_px, workdir)
    bands = bands_of(data)
    dataset = prepare_folder(data.folder, workdir, data.crop_px, bands) if data.folder else data.dataset
    images = datasets.open_images(
        dataset,
        scale=plan.scale,
        split=data.split,
        feature=data.feature,
        lr_feature=data.lr,
        data_dir=data.data_dir,
        trust_builder=data.trust_builder,
        resize_px=data.resize_px,
        resize_kernel=data.resize_kernel,
        make_lr=plan.lr_of_original,
        bands=bands,
    )
    if not count:
        return _first(images, data.first_images), []
    images, held_out = datasets.split_validation(images, count, data.crop_px // (plan.scale if data.lr else 1))
    digests = {held_out.digest(index): held_out.name(index) for index in range(len(held_out))}
    processes.on_first_process(functools.partial(keep_digests, digests, workdir))
    messages.report(
        f"validation images, not trained on: {', '.join(held_out.name(index) for index in range(len(held_out)))}"
    )
    if len(held_out) < count:
        messages.report(
            f"config.validation.hold_out={count}: only {len(held_out)} images are held out, a quarter of all at most"
        )
    return _first(images, data.first_images), held_out


def _first(images: Images, count: int) -> Images:
    """Returns the first `count` images; all of them for 0."""
    return datasets.Subset(images, range(min(count, len(images)))) if count else images


def with_bands(data: DataConfig, workdir: Path) -> DataConfig:
    """Returns `data` with bands and bits in place of 0: those of the prepared data set, or of the run that is resumed.

    Raises:
      UserError: another number of bits than 8 or 16.
    """
    if data.bits not in (0, 8, 16):
        raise UserError(f"config.data.bits={data.bits}: expected 8 or 16, or 0 for those of the data set")
    file = workdir / recorded.FILE
    if file.exists():
        before = recorded.read_config(workdir).get("data", {})
        found = Bands(before.get("channels") or 3, before.get("bits") or 8)
    else:
        found = Bands(*processes.on_first_process(lambda: dataclasses.astuple(_prepared_bands(data))))
    bands = Bands(data.channels or found.count, data.bits or found.bits)
    if bands != RGB:
        messages.report(f"training images: {bands}")
    return dataclasses.replace(data, channels=bands.count, bits=bands.bits)


def _prepared_bands(data: DataConfig) -> Bands:
    try:
        return RGB if data.folder else builder.bands_of(data.dataset, data.data_dir or None)
    except DatasetError:  # reported where the data set is opened
        return RGB


def with_pairs(data: DataConfig, workdir: Path) -> DataConfig:
    """Returns `data` with `lr_feature="lr"`, which is reported, if it is "" and the data set has LR images.

    A resumed run keeps the feature with which it began.
    """
    if data.lr_feature or data.lr_from_original:
        return data
    file = workdir / recorded.FILE
    if file.exists():
        return dataclasses.replace(data, lr_feature=recorded.read_config(workdir).get("data", {}).get("lr_feature", ""))
    if not processes.on_first_process(functools.partial(_has_pairs, data)):
        return data
    name = data.folder or data.dataset
    messages.report(f"{name}: its LR images are used; config.data.lr_feature=none makes LR from HR instead")
    return dataclasses.replace(data, lr_feature="lr")


def _has_pairs(data: DataConfig) -> bool:
    if data.folder:
        folder = storage.local(data.folder)
        return Path(folder).is_dir() and find_layout(folder) is not None
    try:
        return {"hr", "lr"} <= set(
            builder.image_features(data.dataset, data.data_dir or None, trust_builder=data.trust_builder)
        )
    except DatasetError:  # reported where the data set is opened
        return False


def check_held_out(hold_out: int, crop_px: int, workdir: Path) -> None:
    """Raises UserError if a resumed run would validate on images that it was trained on.

    Raises:
      UserError: `hold_out` or `crop_px` differs from the earlier run in `workdir`.
    """
    file = workdir / "config.json"
    before: Mapping[str, Mapping[str, int]] = recorded.read_config(workdir) if file.exists() else {}
    for section, key, value in (("validation", "hold_out", hold_out), ("data", "crop_px", crop_px)):
        previous = before.get(section, {}).get(key, 0) if before else value
        if previous != value:
            raise UserError(
                f"config.{section}.{key}={value}: expected {previous}, with which {workdir} was trained, as the "
                f"validation images could now include training images; write {previous}, or use another --workdir"
            )


def keep_digests(digests: Mapping[str, str], workdir: Path) -> None:
    """Writes the held-out images, name by digest, to `workdir`; compares them if the run has begun.

    Raises:
      UserError: the run has begun with other held-out images, some of which may be training images now, or were.
    """
    file = workdir / HELD_OUT
    if (workdir / recorded.FILE).exists() and file.exists():
        before: Mapping[str, str] = read_object(file, "restore it from a backup, or use another --workdir")
        if before.keys() != digests.keys():
            gone = ", ".join(before[digest] for digest in before.keys() - digests.keys()) or "none"
            new = ", ".join(digests[digest] for digest in digests.keys() - before.keys()) or "none"
            raise UserError(
                f"the data set was changed: of the validation images of {workdir} these are gone: {gone}; in their "
                f"place are: {new}, on which it may have been trained; prepare the earlier images again, or use "
                "another --workdir"
            )
        return
    atomic.write_text(file, json.dumps(digests, indent=1))


def open_samples(images: Images, data: DataConfig, plan: BatchPlan, steps_per_call: int) -> Samples:
    """Returns the source of samples that `data.source` names. Reports its memory use before allocating it."""
    samples = SOURCES[data.source](images, data.folder or data.dataset, plan, data, messages.report)
    if samples.store is None and steps_per_call > 1:
        raise UserError(
            f"config.steps_per_call={steps_per_call}: expected 1 if crops come from the host; more needs tiles in "
            "device memory (config.data.source=memory, and enough of it)"
        )
    return samples
