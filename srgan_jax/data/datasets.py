"""Data sets for training: HR images or packed pairs of HR and LR, optionally resized; subsets; the validation split."""

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from srgan_jax.data import builder
from srgan_jax.data.builder import DatasetError
from srgan_jax.data.images import ImageArrays, Images, PreparedImages
from srgan_jax.images import RGB, Bands
from srgan_jax.ops.resize_uint8 import resize_uint8

MakeLR = Callable[[np.ndarray, tuple[int, int]], np.ndarray]  # (original uint8, height and width) -> LR uint8


def pack(hr: np.ndarray, lr: np.ndarray) -> np.ndarray:
    """Packs a pair into one array of LR's size, so that cropping it crops both images at the same place.

    Args:
      hr: `[h * scale, w * scale, C]` uint8 or uint16.
      lr: `[h, w, C]` of the same dtype.

    Returns:
      `[h, w, C * scale**2 + C]`: the HR pixels that belong to each LR pixel, row by row, then the LR pixel.
    """
    height, width, bands = lr.shape
    scale = hr.shape[0] // height
    blocks = hr.reshape(height, scale, width, scale, bands).transpose(0, 2, 1, 3, 4).reshape(height, width, -1)
    return np.concatenate([blocks, lr], axis=-1)


def unpack(packed: np.ndarray, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns HR and LR of an array that `pack` made."""
    height, width, channels = packed.shape
    bands = channels // (scale**2 + 1)
    blocks = packed[..., :-bands].reshape(height, width, scale, scale, bands)
    return blocks.transpose(0, 2, 1, 3, 4).reshape(height * scale, width * scale, bands), packed[..., -bands:]


class Resized:
    """Images resized to squares of `side_px`; `kernel` is a name in `resize_uint8.RESIZINGS`."""

    def __init__(self, images: PreparedImages, side_px: int, kernel: str = "bicubic"):
        self._images, self._side_px, self._kernel = images, side_px, kernel

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> np.ndarray:
        return resize_uint8(self._images[index], (self._side_px, self._side_px), self._kernel)

    def size(self, index: int) -> tuple[int, int]:
        """Returns `(side_px, side_px)`."""
        return self._side_px, self._side_px

    def digest(self, index: int) -> str:
        """Returns the digest of the original image."""
        return self._images.digest(index)

    def name(self, index: int) -> str:
        """Returns the name in the data set."""
        return self._images.name(index)


class ResizedPairs(Resized):
    """Packed pairs (see `pack`) of images resized to squares and LR images that `make_lr` makes from the originals.

    Attributes:
      make_lr: `(original [H, W, 3] uint8, size) -> lr` uint8, of that height and width.
      scale: HR pixels per LR pixel.
    """

    def __init__(self, images: PreparedImages, side_px: int, kernel: str, make_lr: MakeLR, scale: int):
        super().__init__(images, side_px, kernel)
        self.make_lr, self.scale = make_lr, scale

    def __getitem__(self, index: int) -> np.ndarray:
        original = self._images[index]
        hr = resize_uint8(original, (self._side_px, self._side_px), self._kernel)
        return pack(hr, self.make_lr(original, self.size(index)))

    def size(self, index: int) -> tuple[int, int]:
        """Returns the height and width of LR."""
        return self._side_px // self.scale, self._side_px // self.scale


class Subset:
    """The images of a data set at the given indices."""

    def __init__(self, images: Any, indices: Sequence[int] | np.ndarray):
        self._images, self._indices = images, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._images[self._indices[index]]

    def size(self, index: int) -> tuple[int, int]:
        """Returns the height and width, without decoding."""
        return self._images.size(self._indices[index])

    def digest(self, index: int) -> str:
        """Returns the digest of the content, for images of a prepared data set."""
        return self._images.digest(self._indices[index])

    def name(self, index: int) -> str:
        """Returns the name in the data set."""
        return self._images.name(self._indices[index])


class Pairs:
    """Packed pairs of HR and LR images; see `pack`."""

    def __init__(self, hr: PreparedImages, lr: PreparedImages, scale: int):
        self._hr, self._lr, self._scale = hr, lr, scale

    def __len__(self) -> int:
        return len(self._lr)

    def __getitem__(self, index: int) -> np.ndarray:
        return pack(self._hr[index], self._lr[index])

    def size(self, index: int) -> tuple[int, int]:
        """Returns the height and width of LR, without decoding."""
        return self._lr.size(index)

    def digest(self, index: int) -> str:
        """Returns the digest of HR."""
        return self._hr.digest(index)

    def name(self, index: int) -> str:
        """Returns the index, because HR and LR have different names."""
        return f"number {index}"

    def check(self) -> None:
        """Raises DatasetError if the size of an HR image is not `scale` times that of LR; lists the first ten."""
        wrong = []
        for index in range(len(self)):
            try:
                hr, lr = self._hr.size(index), self._lr.size(index)
            except Exception:  # corrupt: skipped when it is read
                continue
            if hr != (lr[0] * self._scale, lr[1] * self._scale):
                wrong.append(f"number {index}: HR {hr[1]} x {hr[0]}, LR {lr[1]} x {lr[0]}")
        if wrong:
            raise DatasetError(
                f"{len(wrong)} of {len(self)} pairs are not of scale {self._scale} (config.generator.scale); "
                "config.data.lr_feature=none makes LR from HR instead:\n  " + "\n  ".join(wrong[:10])
            )


def open_images(
    dataset: str,
    *,
    scale: int,
    split: str = "train",
    feature: str = "",
    lr_feature: str = "",
    data_dir: str | None = None,
    trust_builder: bool = False,
    resize_px: int = 0,
    resize_kernel: str = "bicubic",
    make_lr: MakeLR | None = None,
    bands: Bands = RGB,
) -> PreparedImages:
    """Returns the images of a data set, `[H, W, C]`; or packed pairs if `lr_feature` or `make_lr` is given.

    Args:
      dataset, split, feature, data_dir, bands, trust_builder: see `builder.open_source`.
      scale: HR pixels per LR pixel.
      lr_feature: name of the image feature with the LR images; "" for none.
      resize_px: HR is resized to a square of this side, LR to one of `resize_px / scale`; 0 keeps the sizes.
      resize_kernel: a name in `resize_uint8.RESIZINGS`.
      make_lr: makes LR from the original images, before HR is resized; needs `resize_px`.

    Raises:
      DatasetError: not prepared, no such split or feature, or pairs that are not of this scale.
    """
    options = {"split": split, "data_dir": data_dir, "bands": bands, "trust_builder": trust_builder}
    source = builder.open_source(dataset, feature=feature, **options)
    if make_lr is not None:
        return ResizedPairs(source, resize_px, resize_kernel, make_lr, scale)
    hr = Resized(source, resize_px, resize_kernel) if resize_px else source
    if not lr_feature:
        return hr
    lr = builder.open_source(dataset, feature=lr_feature, **options)
    pairs = Pairs(hr, Resized(lr, resize_px // scale, resize_kernel) if resize_px else lr, scale)
    pairs.check()
    return pairs


def split_validation(images: PreparedImages, count: int, min_side_px: int) -> tuple[Subset, Subset]:
    """Splits a data set into training and validation images.

    The choice depends on the content of the images only, not on their order or names. Copies of a validation image are
    in neither split.

    Args:
      images: the whole data set.
      count: number of validation images; limited to a quarter of the different images that are large enough.
      min_side_px: images with a shorter side are not used for validation.

    Returns:
      The training images and the validation images.

    Raises:
      DatasetError: fewer than four different images are large enough.
    """
    index_of: dict[str, int] = {}
    digests = [_try_read(images.digest, index, None) for index in range(len(images))]
    for index, digest in enumerate(digests):
        if digest is not None and digest not in index_of and min(_try_read(images.size, index, (0,))) >= min_side_px:
            index_of[digest] = index
    readable = (
        digest for digest in sorted(index_of) if _try_read(images.__getitem__, index_of[digest], None) is not None
    )
    chosen = list(itertools.islice(readable, min(count, len(index_of) // 4)))
    if not chosen:
        raise DatasetError(
            f"{len(index_of)} different images of {min_side_px} px or more are too few for a validation split "
            "(config.validation.hold_out); expected 4 or more"
        )
    rest = [index for index, digest in enumerate(digests) if digest not in chosen]
    return Subset(images, rest), Subset(images, [index_of[digest] for digest in chosen])


def _try_read(read: Callable[[int], Any], index: int, default: Any) -> Any:
    """Returns `read(index)`, or `default` if the image is corrupt (training skips it then)."""
    try:
        return read(index)
    except Exception:
        return default


def without_small(images: Images, crop_px: int) -> tuple[Images, np.ndarray, list[str]]:
    """Returns the images that are at least as large as a crop, their heights and widths, and a report on the others.

    Returns:
      The images; their sizes `[N, 2]` int32 in pixels; a list of no line or one line that names the others.

    Raises:
      DatasetError: no image is large enough.
    """
    sizes = np.array([images.size(index) for index in range(len(images))], np.int32)
    fits = sizes.min(axis=1) >= crop_px
    small = np.flatnonzero(~fits)
    listed = ", ".join(f"number {i} ({sizes[i][1]} x {sizes[i][0]})" for i in small[:10])
    line = f"{small.size} of {len(sizes)} images, smaller than config.data.crop_px={crop_px}: {listed}"
    if not fits.any():
        raise DatasetError(f"{line}; lower config.data.crop_px")
    return (Subset(images, np.flatnonzero(fits)), sizes[fits], [line]) if small.size else (images, sizes, [])


def decode_all(images: ImageArrays) -> list[np.ndarray]:
    """Returns all images, decoded into host memory."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(images.__getitem__, range(len(images))))
