"""Metrics of texture, which noise or blur can't improve together: some are worse with too little, some with too much.

Each takes `sr` and `hr`, `[H, W, 3]` in [0, 1], and the other arguments of `psnr`. `border` is ignored, because spectra
and blocks need whole images, and so is `channel`: luma is always MATLAB's (16 to 235) without rounding.
"""

from collections.abc import Sequence

import numpy as np

from srgan_jax.evaluation.metrics.common import Size, check_same_shape, crop_border
from srgan_jax.evaluation.metrics.vgg54 import features_of, features_of_hr
from srgan_jax.ops.resize import weight_matrix

SCALE = 4  # factor of `lr_psnr`, and side of the lattice in pixels
BLOCK_PX = 16  # side of the blocks of `place` and `flat`
FLAT_LEVELS = 4.0  # blocks of HR with a smaller standard deviation of luma, of 255 levels, are flat
FLAT_BLOCKS = 8  # for an image with fewer flat blocks `flat` is NaN
MESH_BLOCK_PX = 32  # side of the blocks of `mesh`
MESH_FLOOR = 0.25  # levels squared (half a level), added to the energy of each block of `mesh`; less is invisible
SMALLEST_PX = (2 * BLOCK_PX, 2 * BLOCK_PX)


def _luma(image: np.ndarray, size: Size) -> np.ndarray:
    """Returns MATLAB's luma `[H, W]`, 16 to 235, in float64."""
    rgb = np.round(np.asarray(crop_border(image, 0, size), np.float64) * 255)
    return 16 + rgb @ np.array([65.481, 128.553, 24.966]) / 255


def _filter_axis(x: np.ndarray, taps: np.ndarray, before: int, axis: int) -> np.ndarray:
    """Correlates an axis with `taps`; the border is mirrored, with the outermost sample twice (scipy's "reflect")."""
    lines = np.moveaxis(x, axis, 0)
    padded = np.pad(lines, ((before, len(taps) - 1 - before), (0, 0)), mode="symmetric")
    total = np.zeros_like(lines)
    for index, tap in enumerate(taps):
        total += tap * padded[index : index + len(lines)]
    return np.moveaxis(total, 0, axis)


def _high_pass(y: np.ndarray) -> np.ndarray:
    """Returns what a Gaussian with a standard deviation of 1 px, cut off at 4 px, removes."""
    taps = np.exp(-0.5 * np.arange(-4, 5) ** 2)
    taps /= taps.sum()
    return y - _filter_axis(_filter_axis(y, taps, 4, 0), taps, 4, 1)


def _block_means(values: np.ndarray) -> np.ndarray:
    """Returns the means over blocks that begin at multiples of 16 px; an incomplete last block is mirrored."""
    taps = np.full(BLOCK_PX, 1 / BLOCK_PX)
    for axis in (0, 1):
        values = _filter_axis(values, taps, BLOCK_PX // 2, axis)
    return values[BLOCK_PX // 2 :: BLOCK_PX, BLOCK_PX // 2 :: BLOCK_PX]


def _energies(image: np.ndarray, size: Size) -> np.ndarray:
    return _block_means(_high_pass(_luma(image, size)) ** 2)


def _band_power(y: np.ndarray, low: float, high: float) -> float:
    height, width = y.shape
    window = np.hanning(height)[:, None] * np.hanning(width)
    spectrum = np.abs(np.fft.fft2((y - y.mean()) * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    return float(spectrum[(frequency >= low) & (frequency < high)].mean())


def power(
    sr: np.ndarray, hr: np.ndarray, *, border: int = 0, channel: str = "y", size: Size = None, low: float, high: float
) -> float:
    """Computes the power of luma in dB relative to HR's, at `low` to `high` cycles per pixel; 0 is best."""
    check_same_shape(sr, hr)
    del border, channel
    return 10 * float(np.log10(_band_power(_luma(sr, size), low, high) / _band_power(_luma(hr, size), low, high)))


def place(sr: np.ndarray, hr: np.ndarray, *, border: int = 0, channel: str = "y", size: Size = None) -> float:
    """Computes the correlation with HR of the log energy of high frequencies over blocks of 16 px; 1 is best.

    It is high if SR has texture in the same blocks as HR.
    """
    check_same_shape(sr, hr)
    del border, channel
    ours, theirs = (np.log(_energies(image, size) + 0.05).ravel() for image in (sr, hr))
    return float(np.corrcoef(ours, theirs)[0, 1])


def flat(sr: np.ndarray, hr: np.ndarray, *, border: int = 0, channel: str = "y", size: Size = None) -> float:
    """Computes the amplitude of high frequencies relative to HR's in blocks where HR is flat; 1 is best.

    It is above 1 if flat areas, such as skies, are noisy; NaN if HR has fewer than 8 flat blocks.
    """
    check_same_shape(sr, hr)
    del border, channel
    y = _luma(hr, size)
    variance = _block_means(y * y) - _block_means(y) ** 2
    chosen = np.sqrt(np.maximum(variance, 0)) < FLAT_LEVELS
    if chosen.sum() < FLAT_BLOCKS:
        return float("nan")
    return float(np.sqrt(_energies(sr, size)[chosen].mean() / _energies(hr, size)[chosen].mean()))


def lattice(sr: np.ndarray, hr: np.ndarray, *, border: int = 0, channel: str = "y", size: Size = None) -> np.ndarray:
    """Computes the energy of high frequencies at each position of a lattice of 4 x 4 px, `[16]` with mean 1."""
    check_same_shape(sr, hr)
    del border, channel
    energy = _high_pass(_luma(sr, size)) ** 2
    height, width = (side // SCALE for side in energy.shape)
    blocks = energy[: height * SCALE, : width * SCALE].reshape(height, SCALE, width, SCALE)
    means = blocks.mean(axis=(0, 2))
    return (means / means.mean()).ravel()


def phase(values: Sequence[Sequence[float]]) -> float:
    """Returns the largest over the smallest energy of the positions of `lattice`, averaged over images; 1 is best."""
    means = np.mean(values, axis=0)
    return float(means.max() / means.min())


def _repeated(image: np.ndarray, size: Size) -> float:
    """Returns the mean over blocks of a fraction times the number of cells of 4 x 4 px in a block; 1 for noise.

    It is the fraction of the energy of high frequencies that is the same in all cells of the block.
    """
    high, block = _high_pass(_luma(image, size)), MESH_BLOCK_PX
    rows, columns = (side // block for side in high.shape)
    cells = high[: rows * block, : columns * block].reshape(rows, block // SCALE, SCALE, columns, block // SCALE, SCALE)
    shared = (cells.mean(axis=(1, 4)) ** 2).mean(axis=(1, 3))
    return float((shared / ((cells**2).mean(axis=(1, 2, 4, 5)) + MESH_FLOOR)).mean() * (block // SCALE) ** 2)


def mesh(sr: np.ndarray, hr: np.ndarray, *, border: int = 0, channel: str = "y", size: Size = None) -> float:
    """Computes how much of the high frequencies repeats every 4 px within blocks of 32 px, over HR's; 1 is best.

    It is above 1 if a fine mesh covers surfaces, also if the mesh differs from block to block. `lattice` averages over
    the image, where such meshes cancel.
    """
    check_same_shape(sr, hr)
    del border, channel
    return _repeated(sr, size) / _repeated(hr, size)


def _shrink(image: np.ndarray, size: Size) -> np.ndarray:
    rgb = np.round(np.asarray(crop_border(image, 0, size), np.float64) * 255)
    rgb = rgb[: rgb.shape[0] // SCALE * SCALE, : rgb.shape[1] // SCALE * SCALE]
    rows, columns = (weight_matrix(side, side // SCALE, border="symmetric") for side in rgb.shape[:2])
    return np.clip(np.round(np.einsum("ij,jkc,lk->ilc", rows, rgb, columns, optimize=True)), 0, 255)


def lr_psnr(sr: np.ndarray, hr: np.ndarray, *, border: int = 0, channel: str = "y", size: Size = None) -> float:
    """Computes PSNR in dB between SR and HR, both shrunk to a quarter by MATLAB's bicubic and rounded; at most 68.1.

    If LR was made from HR by bicubic, a high value means that SR is a possible original of LR. One LR pixel is ignored
    at each border.
    """
    check_same_shape(sr, hr)
    del border, channel
    difference = (_shrink(sr, size) - _shrink(hr, size))[1:-1, 1:-1]
    return float(10 * np.log10(255**2 / max((difference**2).mean(), 1e-2)))


def v34(sr: np.ndarray, hr: np.ndarray, *, border: int = 0, channel: str = "y", size: Size = None) -> float:
    """Computes the mean squared distance between the VGG19 features relu3_4 of SR and HR, over their variance in HR.

    0 is best.
    """
    check_same_shape(sr, hr)
    del border, channel
    ours, theirs = (np.asarray(crop_border(image, 0, size), np.float32) for image in (sr, hr))
    reference = features_of_hr(theirs, "relu3_4")
    return float(np.square(features_of(ours, "relu3_4") - reference).mean() / reference.var())
