"""Data sets as training sees them: HR images alone, or with the LR images that belong to them; resized if asked."""

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from srgan_jax.data import builder
from srgan_jax.data.builder import DatasetError
from srgan_jax.data.images import ImageArrays, Images, PreparedImages
from srgan_jax.ops.resize import weight_matrix


def pack(hr: np.ndarray, lr: np.ndarray) -> np.ndarray:
    """A pair as one array at the size of LR, so that whatever cuts one image cuts both at the same place.

    Args:
      hr: `[h * scale, w * scale, 3]` uint8.
      lr: `[h, w, 3]` uint8.

    Returns:
      `[h, w, 3 * scale**2 + 3]`: the HR pixels of each LR pixel, row by row, then that LR pixel.
    """
    height, width, _ = lr.shape
    scale = hr.shape[0] // height
    blocks = hr.reshape(height, scale, width, scale, 3).transpose(0, 2, 1, 3, 4).reshape(height, width, -1)
    return np.concatenate([blocks, lr], axis=-1)


class Resized:
    """Images made squares of one size, by antialiased bicubic."""

    def __init__(self, images: PreparedImages, side_px: int):
        self._images, self._side_px = images, side_px

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> np.ndarray:
        image = self._images[index].astype(np.float32)
        rows, columns = (weight_matrix(side, self._side_px).astype(np.float32) for side in image.shape[:2])
        resized = np.einsum("pw,owc->opc", columns, np.einsum("oh,hwc->owc", rows, image, optimize=True), optimize=True)
        return np.clip(np.floor(resized + 0.5), 0, 255).astype(np.uint8)

    def size(self, index: int) -> tuple[int, int]:
        """The same for all."""
        return self._side_px, self._side_px

    def digest(self, index: int) -> str:
        """Of the image before it is resized."""
        return self._images.digest(index)

    def name(self, index: int) -> str:
        """As the data set has it."""
        return self._images.name(index)


class Subset:
    """Some of the images of a data set."""

    def __init__(self, images: Images, indices: Sequence[int] | np.ndarray):
        self._images, self._indices = images, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._images[self._indices[index]]

    def size(self, index: int) -> tuple[int, int]:
        """Height and width, without decoding."""
        return self._images.size(self._indices[index])

    def name(self, index: int) -> str:
        """As the data set has it."""
        return self._images.name(self._indices[index])


class Pairs:
    """Pairs of one data set, packed."""

    def __init__(self, hr: PreparedImages, lr: PreparedImages, scale: int):
        self._hr, self._lr, self._scale = hr, lr, scale

    def __len__(self) -> int:
        return len(self._lr)

    def __getitem__(self, index: int) -> np.ndarray:
        return pack(self._hr[index], self._lr[index])

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of LR, without decoding."""
        return self._lr.size(index)

    def digest(self, index: int) -> str:
        """Of HR."""
        return self._hr.digest(index)

    def name(self, index: int) -> str:
        """Its number: HR and LR have names of their own."""
        return f"number {index}"

    def check(self) -> None:
        """Raises DatasetError where an HR image is not `scale` times its LR image; lists the first ten."""
        wrong = []
        for index in range(len(self)):
            try:
                hr, lr = self._hr.size(index), self._lr.size(index)
            except Exception:  # damaged: replaced when it is read
                continue
            if hr != (lr[0] * self._scale, lr[1] * self._scale):
                wrong.append(f"number {index}: HR {hr[1]} x {hr[0]}, LR {lr[1]} x {lr[0]}")
        if wrong:
            raise DatasetError(
                f"{len(wrong)} of {len(self)} pairs are not of scale {self._scale} (config.generator.scale):\n  "
                + "\n  ".join(wrong[:10])
            )


def open_images(
    dataset: str,
    *,
    scale: int,
    split: str = "train",
    feature: str = "",
    lr_feature: str = "",
    data_dir: str | None = None,
    resize_px: int = 0,
) -> PreparedImages:
    """The images of a data set by index, `[H, W, 3]` uint8; or pairs, packed, where `lr_feature` is given.

    Args:
      dataset, split, feature, data_dir: see `builder.open_source`.
      scale: HR pixels per LR pixel.
      lr_feature: image feature that holds the LR images; "" for none.
      resize_px: HR becomes a square of this side, LR one of `resize_px / scale`; 0 leaves them as they are.

    Raises:
      DatasetError: not prepared, no such split or feature, or pairs whose sizes don't fit.
    """
    source = builder.open_source(dataset, split=split, feature=feature, data_dir=data_dir)
    hr = Resized(source, resize_px) if resize_px else source
    if not lr_feature:
        return hr
    lr = builder.open_source(dataset, split=split, feature=lr_feature, data_dir=data_dir)
    pairs = Pairs(hr, Resized(lr, resize_px // scale) if resize_px else lr, scale)
    pairs.check()
    return pairs


def split_validation(images: PreparedImages, count: int, min_side_px: int) -> tuple[Subset, Subset]:
    """Parts a data set into images to train on and images to judge by.

    Who is held out follows from what the images show, not from their order or names; copies of one that is held out
    are in neither part.

    Args:
      images: all of them.
      count: how many to hold out; a quarter of the images at most.
      min_side_px: smaller ones are not held out.

    Returns:
      The rest, and those held out.

    Raises:
      DatasetError: fewer than four different images are large enough.
    """
    owners: dict[str, int] = {}
    digests = [_try_read(images.digest, index, None) for index in range(len(images))]
    for index, digest in enumerate(digests):
        if digest is not None and digest not in owners and min(_try_read(images.size, index, (0,))) >= min_side_px:
            owners[digest] = index
    sound = (digest for digest in sorted(owners) if _try_read(images.__getitem__, owners[digest], None) is not None)
    chosen = list(itertools.islice(sound, min(count, len(owners) // 4)))
    if not chosen:
        raise DatasetError(
            f"{len(owners)} different images of {min_side_px} px or more: too few to hold some out "
            "(config.validation.hold_out); expected 4 or more"
        )
    rest = [index for index, digest in enumerate(digests) if digest not in chosen]
    return Subset(images, rest), Subset(images, [owners[digest] for digest in chosen])


def _try_read(read: Callable[[int], Any], index: int, default: Any) -> Any:
    """What `read` says of an image, or `default` where it is damaged: it is replaced when it is trained on."""
    try:
        return read(index)
    except Exception:
        return default


def without_small(images: Images, crop_px: int) -> tuple[Images, np.ndarray, list[str]]:
    """The images that a crop fits into, their heights and widths `[N, 2]`, and a line on those left out.

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
    """Every image decoded, in host memory."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(images.__getitem__, range(len(images))))
