"""Resizing and blurring of 8-bit images on the host, to any size, as Pillow and OpenCV do."""

import functools

import numpy as np
from scipy.ndimage import correlate1d

from srgan_jax.ops.resize import weight_matrix
from srgan_jax.runtime.errors import lookup


def _two_samples(in_size: int, out_size: int) -> np.ndarray:
    """Returns the matrix of linear interpolation between the two nearest samples, also when shrinking."""
    centre = np.clip((np.arange(out_size) + 0.5) * in_size / out_size - 0.5, 0, in_size - 1)
    return np.maximum(1.0 - np.abs(centre[:, None] - np.arange(in_size)), 0.0)


def _nearest(in_size: int, out_size: int) -> np.ndarray:
    """Returns the matrix that takes the sample in which the centre of each new one lies."""
    source = (2 * np.arange(out_size) + 1) * in_size // (2 * out_size)
    return np.eye(in_size)[source]


RESIZINGS = {  # name: (in_size, out_size) -> matrix [out_size, in_size]
    "bicubic": weight_matrix,  # antialiased; as Pillow and MATLAB (a = -0.5) away from the borders
    "bilinear": functools.partial(weight_matrix, kernel="bilinear"),  # antialiased, as Pillow away from the borders
    "bilinear_opencv": _two_samples,  # not antialiased: OpenCV's INTER_LINEAR
    "nearest": _nearest,  # as Pillow's and Keras'
}


def resize_uint8(image: np.ndarray, size: tuple[int, int], kernel: str = "bicubic") -> np.ndarray:
    """Returns the image resized to `size`, rounded half up.

    Args:
      image: `[H, W, C]` uint8 or uint16.
      size: height and width of the result.
      kernel: a name in `RESIZINGS`. The outermost samples are repeated at the borders.
    """
    matrix = lookup(RESIZINGS, kernel, "resizing")
    rows, columns = (matrix(*sides).astype(np.float32) for sides in zip(image.shape[:2], size, strict=True))
    resized = np.einsum("oh,hwc->owc", rows, image.astype(np.float32), optimize=True)
    resized = np.einsum("pw,owc->opc", columns, resized, optimize=True)
    return np.clip(np.floor(resized + 0.5), 0, np.iinfo(image.dtype).max).astype(image.dtype)


def blur_uint8(image: np.ndarray, size_px: int, sigma_px: float) -> np.ndarray:
    """Returns the image after OpenCV's GaussianBlur with its default border: mirrored, the outermost sample once.

    Args:
      image: `[H, W, C]` uint8 or uint16.
      size_px: side of the kernel, odd.
      sigma_px: standard deviation.
    """
    taps = np.exp(-0.5 * np.square((np.arange(size_px) - size_px // 2) / max(sigma_px, 1e-2)))
    blurred = image.astype(np.float64)
    for axis in (0, 1):
        blurred = correlate1d(blurred, taps / taps.sum(), axis=axis, mode="mirror")
    return np.clip(np.floor(blurred + 0.5), 0, np.iinfo(image.dtype).max).astype(image.dtype)
