"""`prepare_folder`, which prepares the images of `config.data.folder` as a data set in the folder of a run."""

import json
import os
from pathlib import Path

import jax
from tqdm import tqdm

from srgan_jax.data import builder
from srgan_jax.data.examples import find_examples
from srgan_jax.images import RGB, Bands
from srgan_jax.runtime import atomic, messages, processes, storage
from srgan_jax.runtime.errors import UserError
from srgan_jax.runtime.json_files import read_object
from srgan_jax.runtime.names import readable

MARKER = "folder.txt"  # holds the path of the images; is written last
CONTENT = "folder.json"  # holds the smallest side, and the size in bytes of each prepared file


def prepare_folder(folder: str, workdir: Path, min_side_px: int, bands: Bands = RGB) -> str:
    """Prepares a folder of images as a data set in the folder of the run, and returns its path.

    If it was prepared earlier, the run uses that data set, and images that have changed since are reported.

    Raises:
      UserError: the folder of the run holds a data set made from another folder of images.
    """
    source = folder if storage.scheme(folder) else str(Path(folder).expanduser().resolve())
    out = workdir / "dataset"
    marker = out / MARKER

    def prepare() -> None:
        if marker.exists() and _prepared_from(marker) != source:
            raise UserError(
                f"config.data.folder={source}: expected {_prepared_from(marker)}, on which {workdir} was trained; "
                "for other images use another --workdir"
            )
        if marker.exists():
            _report_changes(source, out, min_side_px)
        else:
            _prepare(source, out, min_side_px, bands)
            storage.push(workdir)

    processes.on_first_process(prepare)
    if jax.process_index():
        storage.pull(workdir)
    return str(out)


def _prepared_from(marker: Path) -> str:
    return marker.read_bytes().decode(errors="surrogateescape")


def _prepare(source: str, out: Path, min_side_px: int, bands: Bands) -> None:
    folder = storage.local(source)
    examples, lines = find_examples(folder)
    for line in [*lines, f"preparing {source}"]:
        messages.report(line)
    with tqdm(total=len(examples), unit=" images", desc="preparing", disable=None, leave=False) as bar:
        options = {"min_side_px": min_side_px, "examples": examples, "on_file": bar.update}
        skipped = builder.prepare(folder, str(out), bands=bands, **options)
    for name, reason in skipped.items():
        messages.report(f"skipped {name}: {reason}")
    for name, kind in builder.read_converted(str(out)).items():
        messages.report(f"converted to {bands}, {name}: {kind}")
    content = {"min_side_px": min_side_px, "files": _sizes(source)}
    atomic.write_text(out / CONTENT, json.dumps(content, indent=1))
    with atomic.atomic_file(out / MARKER) as temporary:
        temporary.write_bytes(os.fsencode(source))  # a path need not be UTF-8


def _sizes(source: str) -> dict[str, int]:
    """Returns the size in bytes of each image file of a folder, by its name."""
    folder = storage.local(source)
    paths = {path for example in find_examples(folder)[0] for path in example}
    return {readable(path.relative_to(folder)): path.stat().st_size for path in sorted(paths)}


def _report_changes(source: str, out: Path, min_side_px: int) -> None:
    """Reports files that were added, changed or removed since the preparation, and another crop size."""
    if not (out / CONTENT).is_file():  # of an earlier version
        return
    before = read_object(out / CONTENT, f"delete {out}, and the images are prepared again")
    if before["min_side_px"] != min_side_px:
        messages.report(
            f"WARNING: {source} was prepared with config.data.crop_px={before['min_side_px']}, not {min_side_px}: "
            "smaller images are not in the data set; to prepare it again use another --workdir"
        )
    if not storage.scheme(source) and not Path(source).is_dir():
        return  # the run has its own copy of the images
    was, now = before["files"], _sizes(source)
    changes = {
        "added": now.keys() - was.keys(),
        "removed": was.keys() - now.keys(),
        "changed": {name for name in now.keys() & was.keys() if now[name] != was[name]},
    }
    found = ", ".join(f"{len(names)} {how} ({', '.join(sorted(names)[:3])})" for how, names in changes.items() if names)
    if found:
        messages.report(
            f"WARNING: images of {source} changed since the run prepared them: {found}; the run continues with those "
            "that it prepared; to use the images as they are now, use another --workdir"
        )
