"""`PhotoFolder`, which makes a tfds data set of the images of a folder."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from srgan_jax import images
from srgan_jax.data.examples import Example
from srgan_jax.runtime.names import readable


def _decode_usable(path: Path, min_side_px: int, bands: images.Bands) -> np.ndarray:
    image = images.decode_bands(path, bands)
    if min(image.shape[:2]) < min_side_px:
        raise images.ImageError(f"{image.shape[1]} x {image.shape[0]} px, smaller than {min_side_px} px")
    return image


class PhotoFolder(tfds.core.GeneratorBasedBuilder):
    """Builds a tfds data set from the images of a folder and its sub-folders, stored losslessly.

    The features are "image", or "hr" and "lr" for paired folders, and "path". tfds makes the name of the data set from
    the name of this class.

    Attributes:
      skipped: path of each skipped file and the reason; filled by `download_and_prepare`.
      converted: path of each file that was not 8-bit RGB, and what it was.
    """

    VERSION = tfds.core.Version("1.0.0")
    # There are no tfds metadata files next to this module.
    pkg_dir_path = Path(__file__).parent  # pyright: ignore[reportAssignmentType]  # tfds declares a path type of etils

    def __init__(
        self,
        *,
        folder: str = "",
        examples: Sequence[Example] = (),
        min_side_px: int = 1,
        bands: images.Bands = images.RGB,
        on_file: Callable[[], Any] = lambda: None,
        **kwargs,
    ):
        self._bands = bands
        self._folder, self._examples, self._min_side_px, self._on_file = Path(folder), examples, min_side_px, on_file
        self._names = ("hr", "lr") if examples and len(examples[0]) == 2 else ("image",)
        self.skipped: dict[str, str] = {}
        self.converted: dict[str, str] = {}
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        encoding = "png" if self._bands.count <= images.PNG_BANDS else None
        dtype = np.uint8 if self._bands.bits == 8 else np.uint16
        image = tfds.features.Image(shape=(None, None, self._bands.count), dtype=dtype, encoding_format=encoding)
        features = dict.fromkeys(self._names, image) | {"path": tfds.features.Text()}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), description="Photographs from a folder."
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        several = len({paths[0] for paths in self._examples}) < len(self._examples)  # LR images for each HR image
        for paths in self._examples:
            name = readable(paths[-1 if several else 0].relative_to(self._folder))
            self._on_file()
            try:  # the minimum side doesn't apply to the LR image of a pair
                sides = [self._min_side_px, 0][: len(paths)]
                decoded = [_decode_usable(path, side, self._bands) for path, side in zip(paths, sides, strict=True)]
            except images.ImageError as error:
                self.skipped[name] = str(error)
                continue
            if kinds := [kind for kind in map(self._conversion, paths) if kind]:
                self.converted[name] = "; ".join(kinds)
            encoded = {key: io.BytesIO(images.encode_bands(p)) for key, p in zip(self._names, decoded, strict=True)}
            yield name, encoded | {"path": name}

    def _conversion(self, path: Path) -> str:
        """Returns what a file was, if it had neither these bands nor exact when converted."""
        kinds = images.conversion(path).split(", ")
        exact = {1: ["", "gray"], 3: [""]}.get(self._bands.count, kinds)
        exact = [*exact, "16 bits"] if self._bands.bits == 16 else exact
        return ", ".join(kind for kind in kinds if kind not in exact)
