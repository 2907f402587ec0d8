"""Data sets of tfds, without TensorFlow: `prepare` makes one from an image folder, `open_source` reads one.

`open_source` also reads any data set of the tfds catalogue that has an image feature.
"""

import contextlib
import importlib.util
import io
import json
import platform
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core import constants

from srgan_jax import images
from srgan_jax.data.examples import Example, find_examples
from srgan_jax.data.feature_classes import DatasetError, check_features
from srgan_jax.data.new_folder import is_temporary, new_folder
from srgan_jax.data.photo_folder import PhotoFolder
from srgan_jax.data.tfds_images import TfdsImages
from srgan_jax.runtime import atomic, json_files, storage
from srgan_jax.runtime.names import readable

DISK_FULL = ("No space left on device", "File too large", "Disk quota exceeded")
SKIPPED_FILE, CONVERTED_FILE = "skipped.json", "converted.json"


def _check_platform() -> None:
    if not importlib.util.find_spec("array_record"):
        raise DatasetError(
            f"data sets need the package array_record, which can't be installed on {platform.system()}: prepare and "
            "train on Linux or macOS (on Windows: in WSL2)"
        )


def prepare(
    folder: str,
    out: str,
    *,
    min_side_px: int = 96,
    bands: images.Bands = images.RGB,
    examples: Sequence[Example] = (),
    on_file: Callable[[], Any] = lambda: None,
) -> dict[str, str]:
    """Prepares a folder of images as a tfds data set; replaces the one in `out`, if any, once the new one is complete.

    Args:
      folder: images of all common formats and any size, sub-folders included; or pairs with equal names in the
        sub-folders `hr` and `lr`.
      out: folder of the data set, for `config.data.dataset`.
      min_side_px: images with a shorter side are skipped; at least `config.data.crop_px`.
      bands: of the images, see `images.decode_bands`.
      examples: the files of each image or pair; () for those that `find_examples` finds.
      on_file: called for each image or pair.

    Returns:
      Path of each skipped file and the reason; also written to `out/skipped.json`. The files that were converted
      (gray, CMYK, 16 bits, animated ...) are listed in `out/converted.json`.

    Raises:
      FileNotFoundError: no such folder.
      DatasetError: no usable image in the folder; a full disk; or the platform has no array_record (Windows).
      UserError: pairs whose names or sizes don't match.
    """
    _check_platform()
    examples = examples or find_examples(folder)[0]  # raises errors before anything is replaced
    options = {"folder": folder, "examples": examples, "min_side_px": min_side_px, "on_file": on_file}
    options |= {"bands": bands}
    with images.isolated_decoding(), new_folder(Path(out), PhotoFolder.name) as made:
        with _quiet():
            builder = PhotoFolder(**options, data_dir=str(made))
        _build(builder, len(examples), folder, out)
    skipped = builder.skipped | {readable(path): "broken link" for path in images.broken_links(folder)}
    atomic.write_text(Path(out, SKIPPED_FILE), json.dumps(skipped, indent=1))
    atomic.write_text(Path(out, CONVERTED_FILE), json.dumps(builder.converted, indent=1))
    return skipped


def _build(builder: PhotoFolder, count: int, folder: str, out: str) -> None:
    """Makes the files of a data set of `count` examples."""
    try:
        with _quiet(), tempfile.TemporaryDirectory() as downloads:
            config = tfds.download.DownloadConfig(download_mode=tfds.GenerateMode.REUSE_CACHE_IF_EXISTS)
            builder.download_and_prepare(download_dir=downloads, download_config=config)
    except Exception as error:
        if full := next((text for text in DISK_FULL if text in str(error)), ""):
            raise DatasetError(f"{out} can't be written ({full}); make space, and repeat the command") from None
        if len(builder.skipped) < count:
            raise
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in list(builder.skipped.items())[:10])
        raise DatasetError(f"{folder} contains no usable images:{reasons}") from None


@contextlib.contextmanager
def _quiet():
    """Suppresses the log messages and progress bars of tfds; the callers report themselves."""
    verbosity = logging.get_verbosity()
    tfds.disable_progress_bar()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)


def _find_builder(
    dataset: str, data_dir: str | None, trust: bool = False
) -> Any:  # the decorators of tfds hide the signatures of its methods
    """Returns the builder of a data set; its features may be of any class only with `trust`."""
    _check_platform()
    folder = Path(storage.local(dataset))
    found = sorted(folder.glob("**/dataset_info.json")) if folder.is_dir() else []
    prepared = [
        path.parent for path in found if "incomplete" not in path.parent.name and not is_temporary(path, folder)
    ]  # others are of a killed preparation
    if len(prepared) > 1:
        listed = ", ".join(str(path) for path in prepared[:5])
        raise DatasetError(f"{dataset} contains {len(prepared)} data sets; set config.data.dataset to one of: {listed}")
    if prepared:
        return _open_folder(prepared[0], trust)
    if folder.is_dir():
        raise DatasetError(
            f"{dataset} is a folder, but not a prepared data set; run: srgan-jax prepare {dataset} --out data/NAME, "
            "then set config.data.dataset=data/NAME"
        )
    name = dataset.split("/")[0].split(":")[0]
    if name not in tfds.list_builders(with_community_datasets=False):
        raise DatasetError(
            f"no data set {dataset!r}: neither a prepared folder nor a name in the tfds catalogue; "
            "for your own images use --config.data.folder=YOUR_PHOTOS, or first run: srgan-jax prepare YOUR_PHOTOS "
            f"--out {dataset}"
        )
    if not trust:
        check_features(Path(data_dir or constants.DATA_DIR).expanduser() / name)
    try:
        with _quiet():
            return tfds.builder(dataset, data_dir=data_dir or None)
    except (ValueError, ImportError) as error:
        raise DatasetError(f"tfds can't open {dataset!r}: {error}") from None


def _open_folder(folder: Path, trust: bool) -> Any:
    if not trust:
        check_features(folder)
    try:
        return tfds.builder_from_directory(folder)
    except Exception as error:  # tfds and protobuf raise nearly everything for damaged files
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DatasetError(f"{folder} contains a damaged data set ({reason}); prepare it again") from None


def prepare_named(dataset: str, data_dir: str | None = None, *, trust_builder: bool = False) -> None:
    """Downloads a data set of the tfds catalogue and prepares it for `open_source` (which reads array_record).

    Raises:
      DatasetError: no such name; its files can't be downloaded; or the tfds code for it needs a package that is not
        installed.
    """
    import requests  # a dependency of tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    manual_hint = "download the images and prepare their folder: srgan-jax prepare FOLDER --out data/NAME"
    builder = _find_builder(dataset, data_dir, trust_builder)
    config = tfds.download.DownloadConfig(download_mode=tfds.GenerateMode.REUSE_CACHE_IF_EXISTS)
    try:
        builder.download_and_prepare(download_config=config, file_format="array_record")
    except ImportError as error:
        name = error.name or getattr(error.__cause__, "name", None)  # tfds re-raises some of them
        raise DatasetError(
            f"the tfds code for {dataset} needs the package {name}, which is no dependency of srgan_jax: pip install "
            f"{name}, prepare the data set, and uninstall {name} again; or {manual_hint}"
        ) from None
    except requests.RequestException as error:
        url = error.request.url if error.request is not None else "its pages"
        raise DatasetError(
            f"{dataset} can't be downloaded: {url} can't be reached; try again later, or {manual_hint}"
        ) from None
    except (tfds.download.DownloadError, NonMatchingChecksumError) as error:
        raise DatasetError(f"{dataset} can't be downloaded: {' '.join(str(error).split())}; or {manual_hint}") from None


def read_converted(out: str) -> dict[str, str]:
    """Returns the files that `prepare` converted for the data set `out`: path, and what the file was."""
    return json_files.read_object(Path(out, CONVERTED_FILE), "prepare the data set again")


def open_source(
    dataset: str,
    *,
    split: str = "train",
    feature: str = "",
    data_dir: str | None = None,
    bands: images.Bands = images.RGB,
    trust_builder: bool = False,
) -> TfdsImages:
    """Returns the images of a data set; they are decoded when indexed.

    Args:
      dataset: a folder written by `prepare`, local or of a bucket, or the name of a tfds data set ("celeb_a",
        "div2k/bicubic_x4").
      split: name of a split of the data set.
      feature: name of an image feature; "" means "hr", else "image", else the only one.
      data_dir: folder in which tfds stores named data sets; None is the default of tfds.
      bands: of the images that are returned, see `images.decode_bands`.
      trust_builder: import the Python code that the data set names; False accepts the features of tfds only.

    Raises:
      DatasetError: not prepared, damaged, no such split or feature, an empty split, or features that aren't of tfds.
    """
    builder = _find_builder(dataset, data_dir, trust_builder)
    if not builder.is_prepared():
        raise DatasetError(f"the data set {dataset} is not on this machine; run: srgan-jax prepare {dataset}")
    if split not in builder.info.splits:
        raise DatasetError(f"{dataset} has no split {split!r}; it has: {', '.join(builder.info.splits)}")
    try:
        name = _image_feature(builder, feature)
        source = builder.as_data_source(split, decoders={name: tfds.decode.SkipDecoding()})
    except NotImplementedError as error:
        raise DatasetError(
            f"the stored format of {dataset} has no random access ({error}); run: srgan-jax prepare {dataset}"
        ) from None
    if not len(source):
        raise DatasetError(f"{dataset}, split {split}, is empty")
    return TfdsImages(source, name, bands)


def count_images(dataset: str) -> int:
    """Returns the number of images, or pairs, of a prepared data set."""
    return _find_builder(dataset, None).info.splits["train"].num_examples


def bands_of(dataset: str, data_dir: str | None = None, *, trust_builder: bool = False) -> images.Bands:
    """Returns the bands of the images of a folder that `prepare` prepared; RGB of 8 bits for other data sets."""
    builder = _find_builder(dataset, data_dir, trust_builder)
    if builder.name != "photo_folder":
        return images.RGB
    feature = builder.info.features[_image_feature(builder, "")]
    return images.Bands(feature.shape[-1], 16 if feature.np_dtype == np.uint16 else 8)


def image_features(dataset: str, data_dir: str | None = None, *, trust_builder: bool = False) -> list[str]:
    """Returns the names of the image features of a data set."""
    builder = _find_builder(dataset, data_dir, trust_builder)
    return [name for name, kind in builder.info.features.items() if isinstance(kind, tfds.features.Image)]


def _image_feature(builder: Any, feature: str) -> str:
    found = [name for name, kind in builder.info.features.items() if isinstance(kind, tfds.features.Image)]
    usual = [name for name in ("hr", "image") if name in found] or found
    if not feature and (usual[:1] == ["hr"] or len(usual) == 1):
        return usual[0]
    if feature not in found:
        raise DatasetError(f"config.data.feature={feature!r}: expected one of the image features {found}")
    return feature
