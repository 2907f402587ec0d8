"""NIQE, a no-reference metric that uses published statistics of natural images."""

import functools
import math
from collections.abc import Mapping

import jax
import numpy as np
from scipy.ndimage import convolve
from scipy.sparse import csr_array

from srgan_jax.evaluation.metrics.common import Size, crop_border
from srgan_jax.ops import color
from srgan_jax.ops.resize import weight_matrix
from srgan_jax.runtime.errors import UserError
from srgan_jax.weights.networks import read_network

BLOCK = 96
SMALLEST_PX = (BLOCK, 2 * BLOCK)  # shorter and longer side: two blocks
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
SHAPES = np.arange(200, 10001) / 1000  # candidate shapes of the generalised Gaussians


def _gamma_ratio(a: float, b: float) -> float:
    return math.exp(math.lgamma(a) - math.lgamma(b))


@functools.cache
def _shape_table() -> np.ndarray:
    """Returns gamma(2/s)^2 / (gamma(1/s) gamma(3/s)) for every s in SHAPES."""
    return np.array([_gamma_ratio(2 / s, 1 / s) * _gamma_ratio(2 / s, 3 / s) for s in SHAPES])


def _block_moments(y: np.ndarray, window: np.ndarray, side: int) -> np.ndarray:
    """Returns moments `[blocks, 5, 4]` of the normalised luma and its products with four neighbours, in each block.

    The moments are the mean squares of the negative and of the positive values, the mean absolute value, and the mean
    square. Sums of squares lose their digits in flat areas, which float32 doesn't have: all is float64.
    """
    mean = convolve(y, window, mode="nearest")
    normal = (y - mean) / (np.sqrt(np.abs(convolve(y * y, window, mode="nearest") - mean * mean)) + 1.0)
    rows, columns = y.shape[0] // side, y.shape[1] // side
    blocks = normal.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(-1, side, side)
    products = (blocks * np.roll(blocks, shift, axis=(1, 2)) for shift in SHIFTS)
    return np.stack([_moments(values) for values in (blocks, *products)], axis=1)


def _moments(values: np.ndarray) -> np.ndarray:
    """Returns the four moments `[blocks, 4]` of `values [blocks, side, side]`; NaN for a mean over no value."""
    negative, positive = np.minimum(values, 0.0), np.maximum(values, 0.0)
    squares = [np.einsum("bij,bij->b", part, part) for part in (negative, positive)]
    counts = [np.count_nonzero(part, axis=(1, 2)) for part in (negative, positive)]
    area = values[0].size
    absolute = (positive.sum(axis=(1, 2)) - negative.sum(axis=(1, 2))) / area
    return np.stack([squares[0] / counts[0], squares[1] / counts[1], absolute, sum(squares) / area], axis=-1)


def _fit_aggd(moments: np.ndarray) -> tuple[float, float, float]:
    """Fits an asymmetric generalised Gaussian; returns its shape, and its left and right scale."""
    left, right = np.sqrt(moments[:2])
    ratio = left / right
    target = moments[2] ** 2 / moments[3] * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shape = SHAPES[np.argmin((_shape_table() - target) ** 2)]
    scale = math.sqrt(_gamma_ratio(1 / shape, 3 / shape))
    return shape, left * scale, right * scale


def _block_features(moments: np.ndarray) -> list[float]:
    shape, left, right = _fit_aggd(moments[0])
    features = [shape, (left + right) / 2]
    for product in moments[1:]:
        shape, left, right = _fit_aggd(product)
        features += [shape, (right - left) * _gamma_ratio(2 / shape, 1 / shape), left, right]
    return features


def niqe_of_luma(y: np.ndarray, parameters: Mapping[str, np.ndarray]) -> float:
    """Computes NIQE (Mittal, Soundararajan & Bovik 2013) like the code of MATLAB and BasicSR; lower is better.

    It is computed in float64. BasicSR's code computes in float32, where images with flat areas differ by up to 0.3.

    Args:
      y: `[H, W]` MATLAB's luma, 16 to 235, rounded; at least 96 x 192.
      parameters: "mu_pris_param" `[1, 36]`, "cov_pris_param" `[36, 36]`, "gaussian_window" `[7, 7]`.

    Raises:
      UserError: the image is smaller than two blocks.
    """
    if min(y.shape) < SMALLEST_PX[0] or max(y.shape) < SMALLEST_PX[1]:
        raise UserError(f"NIQE needs at least {2 * BLOCK} x {BLOCK} px (two blocks), got {y.shape[1]} x {y.shape[0]}")
    y = y[: y.shape[0] // BLOCK * BLOCK, : y.shape[1] // BLOCK * BLOCK].astype(np.float64)
    window = np.asarray(parameters["gaussian_window"], np.float64)
    features = []
    for block_px in (BLOCK, BLOCK // 2):
        with np.errstate(invalid="ignore", divide="ignore"):  # flat blocks give nan, as in the published code
            features.append([_block_features(block) for block in _block_moments(y, window, block_px)])
        rows, columns = (csr_array(weight_matrix(side, side // 2, border="symmetric")) for side in y.shape)
        y = (columns @ (rows @ y).T).T
    features = np.concatenate([np.array(scale) for scale in features], axis=1)
    mean = np.nanmean(features, axis=0)
    covariance = np.cov(features[~np.isnan(features).any(axis=1)], rowvar=False)
    inverse = np.linalg.pinv((parameters["cov_pris_param"].astype(np.float64) + covariance) / 2)
    difference = parameters["mu_pris_param"].astype(np.float64).ravel() - mean
    return float(np.sqrt(difference @ inverse @ difference))


def niqe_weights() -> dict[str, np.ndarray]:
    """Returns the parameters of `niqe_of_luma`; raises MissingFileError with the command that creates them."""
    return read_network("niqe")[0]


def niqe(sr: jax.Array, hr: jax.Array, *, border: int = 0, channel: str = "y", size: Size = None) -> float:
    """Computes `niqe_of_luma` of `sr [H, W, 3]` in [0, 1]; `hr` is ignored. Other arguments as for `psnr`."""
    del hr, channel  # always MATLAB's Y
    parameters = niqe_weights()
    luma = color.rgb_to_y(crop_border(sr, border, size))[..., 0]  # NumPy: nothing to compile for each size
    return niqe_of_luma(np.round(np.asarray(luma, np.float64) * 255), parameters)
