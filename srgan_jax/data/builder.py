"""A folder of photographs as a tfds data set, without TensorFlow: `prepare` writes it, `open_source` reads it.

Any other tfds data set with an image feature works by name.
"""

import contextlib
import hashlib
import importlib.util
import io
import json
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from srgan_jax import images
from srgan_jax.data import paired_folders
from srgan_jax.runtime import atomic
from srgan_jax.runtime.errors import UserError

SKIPPED_FILE, CONVERTED_FILE = "skipped.json", "converted.json"


class DatasetError(UserError):
    """A data set that isn't there or can't be used; the message says what to do."""


def _usable(path: Path, min_side_px: int) -> np.ndarray:
    picture = images.decode_rgb(path)
    if min(picture.shape[:2]) < min_side_px:
        raise images.ImageError(f"{picture.shape[1]} x {picture.shape[0]} px, smaller than {min_side_px} px")
    return picture


class PhotoFolder(tfds.core.GeneratorBasedBuilder):
    """Pictures of any size and format from a folder and its sub-folders, as lossless RGB: "image", or "hr" and "lr".

    Attributes:
      skipped: path and reason of every file that was left out, after `download_and_prepare`.
      converted: path of every file that was not 8-bit RGB, and what it was.
    """

    VERSION = tfds.core.Version("1.0.0")
    # No metadata files beside this module.
    pkg_dir_path = Path(__file__).parent  # pyright: ignore[reportAssignmentType]  # tfds declares etils' kind of path

    def __init__(
        self, *, folder: str = "", min_side_px: int = 1, on_picture: Callable[[], Any] = lambda: None, **kwargs
    ):
        self._folder, self._min_side_px, self._on_picture = Path(folder), min_side_px, on_picture
        self.skipped: dict[str, str] = {}
        self._names = ("hr", "lr") if paired_folders.is_paired(folder) else ("image",)
        self.converted: dict[str, str] = {}
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Image(shape=(None, None, 3), encoding_format="png")
        features = dict.fromkeys(self._names, image) | {"path": tfds.features.Text()}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), description="Photographs from a folder."
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        paired = len(self._names) == 2
        found = paired_folders.match_pairs(self._folder) if paired else zip(images.find_images(self._folder))
        for paths in found:
            name = paths[0].relative_to(self._folder).as_posix()
            for _ in paths:
                self._on_picture()
            try:  # the LR picture of a pair may be smaller
                pictures = [_usable(path, 0 if index else self._min_side_px) for index, path in enumerate(paths)]
            except images.ImageError as error:
                self.skipped[name] = str(error)
                continue
            if kinds := [kind for kind in map(images.conversion, paths) if kind]:
                self.converted[name] = "; ".join(kinds)
            encoded = {key: io.BytesIO(images.encode_png(p)) for key, p in zip(self._names, pictures, strict=True)}
            yield name, encoded | {"path": name}


def _check_platform() -> None:
    if not importlib.util.find_spec("array_record"):
        raise DatasetError(
            f"data sets are kept by array_record, which can't be installed on {platform.system()}: prepare and train "
            "on Linux or macOS (on Windows: in WSL2)"
        )


def prepare(
    folder: str, out: str, *, min_side_px: int = 96, on_picture: Callable[[], Any] = lambda: None
) -> dict[str, str]:
    """Turns a folder of pictures into a tfds data set, replacing one that `out` holds already.

    Args:
      folder: pictures of all common formats and any size, in sub-folders too; or pairs of one name in `hr` and `lr`.
      out: folder of the data set; `config.data.dataset` names it.
      min_side_px: smaller pictures are skipped; at least the HR crop.
      on_picture: called after each file.

    Returns:
      Path and reason of each file that was skipped; also written to `out/skipped.json`, and those that were converted
      (gray, CMYK, 16 bits, animated ...) to `out/converted.json`.

    Raises:
      FileNotFoundError: no such folder.
      DatasetError: no usable picture in it; or data sets can't be kept on this platform (Windows).
      UserError: pairs whose names or sizes don't match.
    """
    _check_platform()
    if paired_folders.is_paired(folder):
        paired_folders.match_pairs(folder)  # before anything is replaced
    if not images.find_images(folder):
        raise DatasetError(f"{folder} holds no picture ({', '.join(images.SUFFIXES)})")
    with _quiet():
        builder = PhotoFolder(folder=folder, min_side_px=min_side_px, on_picture=on_picture, data_dir=out)
    try:
        with _quiet(), tempfile.TemporaryDirectory() as downloads:
            config = tfds.download.DownloadConfig(download_mode=tfds.GenerateMode.REUSE_CACHE_IF_EXISTS)
            builder.download_and_prepare(download_dir=downloads, download_config=config)
    except Exception:
        if len(builder.skipped) < len(images.find_images(folder)):
            raise
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in list(builder.skipped.items())[:10])
        raise DatasetError(f"{folder} holds no usable picture:{reasons}") from None
    atomic.write_text(Path(out, SKIPPED_FILE), json.dumps(builder.skipped, indent=1))
    atomic.write_text(Path(out, CONVERTED_FILE), json.dumps(builder.converted, indent=1))
    return builder.skipped


@contextlib.contextmanager
def _quiet():
    """Without tfds' own messages and bars: the callers report in their own words."""
    verbosity = logging.get_verbosity()
    tfds.disable_progress_bar()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)


def _find_builder(dataset: str, data_dir: str | None) -> Any:  # tfds' decorators hide what its methods take
    _check_platform()
    folder = Path(dataset)
    found = sorted(folder.glob("**/dataset_info.json")) if folder.is_dir() else []
    prepared = [path.parent for path in found if "incomplete" not in path.parent.name]  # left by a killed preparation
    if len(prepared) > 1:
        listed = ", ".join(str(path) for path in prepared[:5])
        raise DatasetError(f"{dataset} holds {len(prepared)} data sets; set config.data.dataset to one of: {listed}")
    if prepared:
        return tfds.builder_from_directory(prepared[0])
    if folder.is_dir():
        raise DatasetError(
            f"{dataset} is a folder, but not a prepared data set; run: srgan-jax prepare {dataset} --out data/NAME, "
            "then set config.data.dataset=data/NAME"
        )
    if dataset.split("/")[0].split(":")[0] not in tfds.list_builders(with_community_datasets=False):
        raise DatasetError(
            f"no data set {dataset!r}: neither a prepared folder nor a name in the tfds catalogue; "
            "for your own pictures give --config.data.folder=YOUR_PHOTOS, or first run: srgan-jax prepare YOUR_PHOTOS "
            f"--out {dataset}"
        )
    try:
        with _quiet():
            return tfds.builder(dataset, data_dir=data_dir or None)
    except (ValueError, ImportError) as error:
        raise DatasetError(f"tfds can't open {dataset!r}: {error}") from None


def prepare_named(dataset: str, data_dir: str | None = None) -> None:
    """Downloads a data set of the tfds catalogue and prepares it for `open_source` (which reads array_record).

    Raises:
      DatasetError: no such name; its files can't be downloaded; tfds' code for it needs what isn't installed.
    """
    import requests  # tfds' own
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    by_hand = "download the pictures and prepare their folder: srgan-jax prepare FOLDER --out data/NAME"
    builder = _find_builder(dataset, data_dir)
    config = tfds.download.DownloadConfig(download_mode=tfds.GenerateMode.REUSE_CACHE_IF_EXISTS)
    try:
        builder.download_and_prepare(download_config=config, file_format="array_record")
    except ImportError as error:
        name = error.name or getattr(error.__cause__, "name", None)  # tfds raises some of them anew
        raise DatasetError(
            f"tfds' own code for {dataset} needs {name}, which srgan_jax doesn't: pip install {name}, "
            f"prepare it, and uninstall it again; or {by_hand}"
        ) from None
    except requests.RequestException as error:
        url = error.request.url if error.request is not None else "its pages"
        raise DatasetError(f"{dataset} can't be downloaded, {url} can't be reached; later, or {by_hand}") from None
    except (tfds.download.DownloadError, NonMatchingChecksumError) as error:
        raise DatasetError(f"{dataset} can't be downloaded: {' '.join(str(error).split())}; or {by_hand}") from None


def read_converted(out: str) -> dict[str, str]:
    """What `prepare` converted into the data set `out`: path and what the file was."""
    return json.loads(Path(out, CONVERTED_FILE).read_text())


def open_source(dataset: str, *, split: str = "train", feature: str = "", data_dir: str | None = None) -> "Pictures":
    """The pictures of a data set, by index, decoded when asked for.

    Args:
      dataset: a folder written by `prepare`, or the name of a tfds data set ("celeb_a", "div2k/bicubic_x4").
      split: of the data set.
      feature: which image feature; "" takes "hr", then "image", then the only one.
      data_dir: where tfds keeps named data sets; None is its default.

    Raises:
      DatasetError: not prepared, no such split or feature, or no pictures.
    """
    builder = _find_builder(dataset, data_dir)
    if not builder.is_prepared():
        raise DatasetError(f"the data set {dataset} is not on this machine; run: srgan-jax prepare {dataset}")
    if split not in builder.info.splits:
        raise DatasetError(f"{dataset} has no split {split!r}; it has: {', '.join(builder.info.splits)}")
    try:
        name = _image_feature(builder, feature)
        source = builder.as_data_source(split, decoders={name: tfds.decode.SkipDecoding()})
    except NotImplementedError as error:
        raise DatasetError(
            f"{dataset} is not stored for random access ({error}); run: srgan-jax prepare {dataset}"
        ) from None
    if not len(source):
        raise DatasetError(f"{dataset}, split {split}, is empty")
    return Pictures(source, name)


def _image_feature(builder: Any, feature: str) -> str:
    found = [name for name, kind in builder.info.features.items() if isinstance(kind, tfds.features.Image)]
    usual = [name for name in ("hr", "image") if name in found] or found
    if not feature and (usual[:1] == ["hr"] or len(usual) == 1):
        return usual[0]
    if feature not in found:
        raise DatasetError(f"config.data.feature={feature!r}: expected one of the image features {found}")
    return feature


class Pictures:
    """One image feature of a tfds data source, as `[H, W, 3]` uint8."""

    def __init__(self, source: Any, feature: str):
        self._source, self._feature = source, feature

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> np.ndarray:
        return images.decode_rgb(io.BytesIO(self._source[index][self._feature]))

    def size(self, index: int) -> tuple[int, int]:
        """Height and width, without decoding."""
        return images.image_size(io.BytesIO(self._source[index][self._feature]))

    def digest(self, index: int) -> str:
        """Of the encoded picture: equal pictures of a data set have equal ones."""
        return hashlib.sha256(self._source[index][self._feature]).hexdigest()

    def name(self, index: int) -> str:
        """The path that the picture had in its folder, where the data set holds it, and its number."""
        try:
            return f"{self._source[index]['path'].decode()} (number {index})"
        except Exception:  # no such feature, or the record is damaged
            return f"number {index}"
