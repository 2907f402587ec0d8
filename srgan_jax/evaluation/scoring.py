"""Upscaling and scoring of the images of a test set, and the two baselines."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from srgan_jax import inference, models, weights
from srgan_jax.evaluation import metrics
from srgan_jax.evaluation.metrics.common import MIN_SIDE_PX
from srgan_jax.evaluation.pairs import Pair
from srgan_jax.ops import color, resize
from srgan_jax.runtime.errors import UserError

CANVAS_PX = 256 * 256  # LR pixels; larger images are upscaled in tiles of at most this area, in bounded memory
Scores = Mapping[str, Any]  # name of a metric to its value for one image, a number, or the list that the metric pools
# upscale_fn(lr [H, W, 3] in [0, 1], size) -> sr: the image of `size` is in the top left corner of both arrays, see
# inference.upscale_canvas
UpscaleFn = Callable[[np.ndarray, tuple[int, int]], jax.Array]


def bicubic(lr: np.ndarray, scale: int) -> np.ndarray:
    """Upscales `[H, W, 3]` uint8 by MATLAB's bicubic interpolation, the baseline of every table."""
    size = (lr.shape[0] * scale, lr.shape[1] * scale)
    return np.asarray(color.to_integers(resize.resize(color.from_integers(lr), size, convention="C"), lr.dtype))


def nearest(lr: np.ndarray, scale: int) -> np.ndarray:
    """Upscales `[H, W, 3]` by nearest neighbour: repeats each pixel `scale` times along both axes."""
    return lr.repeat(scale, axis=0).repeat(scale, axis=1)


def _pad_to_canvas(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Pads a uint8 or uint16 image to `size` by edge replication at the right and bottom; returns float32 in [0, 1]."""
    pad = [(0, size[0] - image.shape[0]), (0, size[1] - image.shape[1]), (0, 0)]
    return np.pad(image, pad, mode="edge").astype(np.float32) / np.float32(color.levels_of(image.dtype))


def upscale_all(upscale_fn: UpscaleFn, pairs: Sequence[Pair], finite: bool = False) -> list[np.ndarray]:
    """Returns the SR image of each pair, uint8, with a single compilation for all sizes.

    With `finite`, raises UserError if an SR image has non-finite values; otherwise those pixels are black.
    """
    canvas = [max(pair.lr.shape[axis] for pair in pairs) for axis in (0, 1)]
    results = []
    for pair in pairs:
        with jax.default_matmul_precision("highest"):  # the default is bf16 on TPU and TF32 on GPU
            sr = upscale_fn(_pad_to_canvas(pair.lr, canvas), pair.lr.shape[:2])
        if finite and not np.isfinite(np.asarray(sr)[: pair.hr.shape[0], : pair.hr.shape[1]]).all():
            raise UserError(f"{pair.name}: the generator gave values that aren't finite, so there is nothing to score")
        results.append(np.asarray(color.to_integers(sr, pair.lr.dtype))[: pair.hr.shape[0], : pair.hr.shape[1]])
    return results


def upscale_pairs(params: weights.Weights, pairs: Sequence[Pair], finite: bool = False) -> list[np.ndarray]:
    """Returns the SR image of each pair, uint8; images of more than `CANVAS_PX` LR pixels are upscaled in tiles.

    `finite` is that of `upscale_all`; tiles are always checked. The tiles depend on the images only, not on free
    memory, so that a resumed run has the same scores.
    """
    sizes = [(pair.lr.shape[0], pair.lr.shape[1]) for pair in pairs]
    if max(height for height, _ in sizes) * max(width for _, width in sizes) <= CANVAS_PX:
        return upscale_all(functools.partial(inference.upscale_canvas, params), pairs, finite)
    halo, period = inference.halo_px(params.architecture)[0], inference.period_px(params.architecture)
    tiler = inference.Tiler(params, inference.choose_tile(sizes, halo, CANVAS_PX, period=period))
    with jax.default_matmul_precision("highest"):  # the default is bf16 on TPU and TF32 on GPU
        images = (inference.from_array(pair.lr, models.channels_of(params.architecture)) for pair in pairs)
        return [np.concatenate(list(strips)) for _, strips in tiler.upscale(images)]


def check_sizes(pairs: Iterable[Pair], names: Iterable[str], border: int | None = None) -> None:
    """Checks that every image is large enough for every metric, before anything is computed.

    Args:
      pairs: the pairs.
      names: names in `evaluation.metrics.METRICS`.
      border: as for `score`.

    Raises:
      UserError: an image is too small for one of the metrics.
    """
    smallest = {"every metric": (MIN_SIDE_PX, MIN_SIDE_PX)}
    smallest |= {name: metric.smallest_px for name, metric in metrics.find_all(names).items()}
    for pair in pairs:
        border_px = _border_px(pair, border)
        sides = sorted(side - 2 * border_px for side in pair.hr.shape[:2])
        for name, (short, long) in smallest.items():
            if border_px < 0 or sides[0] < short or sides[1] < long:
                raise UserError(
                    f"{pair.name} is {pair.hr.shape[1]} x {pair.hr.shape[0]} px; without a border of {border_px} px "
                    f"at each side, at least {long} x {short} px must remain for {name}"
                )


def _border_px(pair: Pair, border: int | None) -> int:
    return pair.hr.shape[0] // pair.lr.shape[0] if border is None else border


def score(
    pairs: Sequence[Pair],
    results: Iterable[np.ndarray],
    names: Sequence[str] = ("psnr_y", "ssim_y"),
    *,
    border: int | None = None,
    round_y: bool = False,
    on_image: Callable[[], Any] = lambda: None,
) -> list[Scores]:
    """Computes the metrics of each image, on SR rounded to 8 bits as in image files.

    Args:
      pairs: the pairs.
      results: the SR image of each pair, uint8, with the shape of its `hr`.
      names: names in `evaluation.metrics.METRICS`.
      border: pixels ignored at each side; None for the scale, as in papers.
      round_y: round the luma to 8 bits before comparing.
      on_image: called after each image.

    Returns:
      For each image, a dictionary from metric to value.
    """
    check_sizes(pairs, names, border)
    canvas = [max(pair.hr.shape[axis] for pair in pairs) for axis in (0, 1)]
    measures = {name: metrics.find(name) for name in names}
    rows = []
    for pair, result in zip(pairs, results, strict=True):
        if result.shape != pair.hr.shape:
            raise ValueError(f"{pair.name}: expected a result of {pair.hr.shape}, got {result.shape}")
        options = {
            "border": _border_px(pair, border),
            "channel": ("gray" if pair.gray else "y") + ("8" if round_y else ""),
            "size": pair.hr.shape[:2],
        }
        both = (_pad_to_canvas(result, canvas), _pad_to_canvas(pair.hr, canvas))
        try:
            rows.append({name: np.asarray(measure(*both, **options)).tolist() for name, measure in measures.items()})
        except UserError as error:
            raise UserError(f"{pair.name}: {error}") from None
        on_image()
    return rows


def mean(rows: Sequence[Scores]) -> dict[str, float]:
    """Returns the value of each metric for a set of images: the mean, unless the metric's entry says otherwise."""
    return {name: metrics.pooled(name, [row[name] for row in rows]) for name in rows[0]}


def of_one_image(row: Scores) -> dict[str, float]:
    """Returns the scores of one image as numbers: some metrics have several values per image until they are pooled."""
    return {name: metrics.pooled(name, [value]) for name, value in row.items()}


def bootstrap_interval(differences: Sequence[float], *, draws: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Returns the 95 % bootstrap interval of the mean of paired differences (percentile method over images)."""
    values = np.asarray(differences, np.float64)
    chosen = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    low, high = np.percentile(values[chosen].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
