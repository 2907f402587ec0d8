"""The images of a run: prepared, held out, and opened as a source of samples."""

import json
from collections.abc import Mapping
from pathlib import Path

from srgan_jax.config.schema import DataConfig, ValidationConfig
from srgan_jax.data import builder, datasets
from srgan_jax.data.batch_plan import BatchPlan
from srgan_jax.data.feed import Samples
from srgan_jax.data.images import ImageArrays, Images
from srgan_jax.data.sources import SOURCES
from srgan_jax.runtime import atomic, messages, processes
from srgan_jax.runtime.errors import UserError


def open_images(
    data: DataConfig, validation: ValidationConfig, scale: int, workdir: Path
) -> tuple[Images, ImageArrays]:
    """Returns the images to train on, and those of them that are held out; none where `validation` asks for none."""
    count = validation.hold_out
    if count and (validation.folder or data.lr_feature):
        raise UserError("config.validation.hold_out goes neither with validation.folder nor with data.lr_feature")
    if count:
        check_held_out(count, data.crop_px, workdir)
    dataset = prepare_folder(data.folder, workdir, data.crop_px) if data.folder else data.dataset
    images = datasets.open_images(
        dataset,
        scale=scale,
        split=data.split,
        feature=data.feature,
        lr_feature=data.lr_feature,
        data_dir=data.data_dir,
        resize_px=data.resize_px,
    )
    if not count:
        return images, []
    images, held_out = datasets.split_validation(images, count, data.crop_px)
    messages.report(f"held out, never trained on: {', '.join(held_out.name(index) for index in range(len(held_out)))}")
    if len(held_out) < count:
        messages.report(f"{count} asked for by config.validation.hold_out, {len(held_out)} held out: a quarter at most")
    return images, held_out


def check_held_out(hold_out: int, crop_px: int, workdir: Path) -> None:
    """Whether a run that resumes holds out what it held out before.

    Raises:
      UserError: it would hold out images that it was trained on.
    """
    file = Path(workdir, "config.json")
    before: Mapping[str, Mapping[str, int]] = json.loads(file.read_text()) if file.exists() else {}
    for section, key, now in (("validation", "hold_out", hold_out), ("data", "crop_px", crop_px)):
        then = before[section].get(key, 0) if before else now
        if then != now:
            raise UserError(
                f"config.{section}.{key}={now}, but {workdir} was trained with {then}, perhaps on images that would "
                f"be held out now; give {then} again, or another --workdir"
            )


def prepare_folder(folder: str, workdir: Path, min_side_px: int) -> str:
    """Prepares a folder of images as a data set inside a run's folder, once; returns where it lies.

    Raises:
      UserError: the run's folder holds the data set of another folder.
    """
    source, out = str(Path(folder).expanduser().resolve()), Path(workdir, "dataset")
    note = out / "folder.txt"  # written last

    def prepare() -> None:
        if note.exists() and note.read_text() != source:
            raise UserError(f"{workdir} was trained on {note.read_text()}; for {source} use another --workdir")
        if not note.exists():
            messages.report(f"preparing {source}")
            for name, reason in builder.prepare(source, str(out), min_side_px=min_side_px).items():
                messages.report(f"skipped {name}: {reason}")
            atomic.write_text(note, source)

    processes.on_first_process(prepare)
    return str(out)


def open_samples(images: Images, data: DataConfig, plan: BatchPlan, steps_per_call: int) -> Samples:
    """Returns the source of samples that a config names; what it takes of memory is reported before it is taken."""
    samples = SOURCES[data.source](images, data.folder or data.dataset, plan, data, messages.report)
    if samples.store is None and steps_per_call > 1:
        raise UserError(
            f"config.steps_per_call={steps_per_call} needs tiles on the device (config.data.source=memory, and room "
            "for them); use 1 where crops come from the host"
        )
    return samples
