"""Scores of upscalers over sets of pictures."""

import functools
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from srgan_jax import color, images, metrics, resize
from srgan_jax.errors import MissingFileError, UserError

# upscale_fn(lr [H, W, 3] in [0, 1], size) -> sr: the picture of `size` lies in the top left of both, see
# inference.upscale_canvas
MIN_SIDE_PX = 11  # a window of SSIM
UpscaleFn = Callable[[np.ndarray, tuple[int, int]], jax.Array]


class Pair(NamedTuple):
    """A picture and its LR image, uint8, `hr.shape == scale * lr.shape` in height and width."""

    name: str
    lr: np.ndarray
    hr: np.ndarray
    gray: bool = False  # a gray file: its samples are compared as they are, not as MATLAB's luma of RGB


# ---------------------------------------------------------------------------------------------- pictures


def crop_to_multiple(image: np.ndarray, scale: int) -> np.ndarray:
    """The top left part whose sides are multiples of `scale`."""
    height, width = image.shape[:2]
    return image[: height - height % scale, : width - width % scale]


@functools.partial(jax.jit, static_argnames=("scale", "convention"))
def _shrink(hr: jax.Array, scale: int, convention: str) -> jax.Array:
    return color.to_uint8(resize.downscale(color.from_uint8(hr), scale, convention=convention))


def make_pair(name: str, hr: np.ndarray, scale: int, convention: str = "A", gray: bool = False) -> Pair:
    """`hr` (uint8) cropped to a multiple of `scale`, with its bicubic LR image rounded to 8 bits."""
    hr = crop_to_multiple(hr, scale)
    return Pair(name, np.asarray(_shrink(hr, scale, convention)), hr, gray)


def _holds_pictures(folder: Path) -> bool:
    return (folder / "HR").is_dir() or bool(images.find_pictures(folder, recursive=False))


def _test_pictures(folder: Path) -> list[Path]:
    """The pictures in `folder` itself, whose names must tell them apart."""
    paths = images.find_pictures(folder, recursive=False)
    if not paths:
        inside = [str(path) for path in sorted(folder.iterdir()) if path.is_dir() and _holds_pictures(path)]
        hint = f" itself; name the sub-folders that hold some: {', '.join(inside[:10])}" if inside else ""
        raise MissingFileError(f"no pictures in {folder}{hint}")
    stems = [path.stem for path in paths]
    if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise UserError(f"{folder} holds several pictures of one name: {', '.join(twice[:10])}")
    return paths


def read_pairs(
    folder: str | os.PathLike,
    scale: int,
    convention: str = "A",
    keep_gray: bool = True,
    mine: Callable[[list[Path]], list[Path]] = lambda paths: paths,
) -> list[Pair]:
    """The pictures of a test set.

    Args:
      folder: HR pictures, sub-folders not looked into; or sub-folders `HR` and `LRx4` (for scale 4), same names.
      scale: HR pixels per LR pixel.
      convention: of the LR images that are made, see `resize`; those found in `LRx4` are used as they are.
      keep_gray: compare the samples of gray files as they are, as MATLAB code does; else as MATLAB's luma of RGB.
      mine: which of the HR files to read, such as `devices.process_share`.

    Raises:
      MissingFileError: no such folder, or no picture in it.
      UserError: names or sizes of HR and LR don't match.
      ImageError: a picture can't be read.
    """
    root = Path(folder)
    hr_folder = root / "HR" if (root / "HR").is_dir() else root
    lr_folder = root / f"LRx{scale}"
    everything = _test_pictures(hr_folder)
    paths = mine(everything)
    grays = [keep_gray and images.is_gray(path) for path in paths]
    pictures = [images.read_rgb(path) for path in paths]
    if not lr_folder.is_dir():
        return [
            make_pair(path.stem, hr, scale, convention, gray)
            for path, hr, gray in zip(paths, pictures, grays, strict=True)
        ]
    lr_paths = {path.stem: path for path in _test_pictures(lr_folder)}
    found = {path.stem: images.read_rgb(lr_paths[path.stem]) for path in paths if path.stem in lr_paths}
    pairs = []
    wrong = [f"{name}: not in {hr_folder}" for name in sorted(lr_paths.keys() - {path.stem for path in everything})]
    for path, hr, gray in zip(paths, pictures, grays, strict=True):
        hr, lr = crop_to_multiple(hr, scale), found.get(path.stem)
        if lr is None:
            wrong.append(f"{path.stem}: not in {lr_folder}")
        elif (lr.shape[0] * scale, lr.shape[1] * scale) != hr.shape[:2]:
            wrong.append(f"{path.stem}: HR {hr.shape[1]} x {hr.shape[0]}, LR {lr.shape[1]} x {lr.shape[0]}")
        else:
            pairs.append(Pair(path.stem, lr, hr, gray))
    if wrong:
        raise UserError(f"{len(wrong)} pictures of {folder} don't match:\n  " + "\n  ".join(wrong[:10]))
    return pairs


def degrade_pairs(pairs: Sequence[Pair], degrade: Callable[..., jax.Array]) -> list[Pair]:
    """The same pictures with other LR images, each by a random key of its own name: the same every time.

    Args:
      pairs: the pictures.
      degrade: `(key, hr) -> lr`, a function of `degradations.DEGRADATIONS` with its options.
    """
    shrink = jax.jit(lambda key, hr: color.to_uint8(degrade(key, color.from_uint8(hr))))
    keys = [jax.random.fold_in(jax.random.key(0), zlib.crc32(pair.name.encode())) for pair in pairs]
    return [pair._replace(lr=np.asarray(shrink(key, pair.hr))) for key, pair in zip(keys, pairs, strict=True)]


# ---------------------------------------------------------------------------------------------- upscaling


def bicubic(lr: np.ndarray, scale: int) -> np.ndarray:
    """MATLAB's bicubic enlargement of `[H, W, 3]` uint8, the baseline of every table."""
    size = (lr.shape[0] * scale, lr.shape[1] * scale)
    return np.asarray(color.to_uint8(resize.resize(color.from_uint8(lr), size, convention="C")))


def nearest(lr: np.ndarray, scale: int) -> np.ndarray:
    """Each pixel of `[H, W, 3]` repeated `scale` times along both axes."""
    return lr.repeat(scale, axis=0).repeat(scale, axis=1)


def _onto_canvas(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """`[*size, 3]` float32 in [0, 1], the outermost rows and columns repeated outside the picture."""
    pad = [(0, size[0] - image.shape[0]), (0, size[1] - image.shape[1]), (0, 0)]
    return np.pad(image, pad, mode="edge").astype(np.float32) / 255.0


def upscale_all(upscale_fn: UpscaleFn, pairs: Sequence[Pair]) -> list[np.ndarray]:
    """The SR pictures, uint8, with one compilation for all sizes."""
    canvas = np.max([pair.lr.shape[:2] for pair in pairs], axis=0)
    results = []
    for pair in pairs:
        with jax.default_matmul_precision("highest"):  # float32 products are bf16 on TPU, TF32 on GPU otherwise
            sr = upscale_fn(_onto_canvas(pair.lr, canvas), pair.lr.shape[:2])
        results.append(np.asarray(color.to_uint8(sr))[: pair.hr.shape[0], : pair.hr.shape[1]])
    return results


# ---------------------------------------------------------------------------------------------- scores


def check_sizes(pairs: Iterable[Pair], names: Iterable[str], border: int | None = None) -> None:
    """Raises UserError where a picture is too small for one of the metrics: before anything is computed.

    Args:
      pairs: the pictures.
      names: in `metrics.METRICS`.
      border: as for `score`.
    """
    smallest = {"every metric": (MIN_SIDE_PX, MIN_SIDE_PX)} | {
        n: metrics.SMALLEST_PX[n] for n in names if n in metrics.SMALLEST_PX
    }
    for pair in pairs:
        cut = _border(pair, border)
        sides = sorted(side - 2 * cut for side in pair.hr.shape[:2])
        for name, (short, long) in smallest.items():
            if cut < 0 or sides[0] < short or sides[1] < long:
                raise UserError(
                    f"{pair.name} is {pair.hr.shape[1]} x {pair.hr.shape[0]} px; with {cut} px left out at each side, "
                    f"at least {long} x {short} must remain for {name}"
                )


def _border(pair: Pair, border: int | None) -> int:
    return pair.hr.shape[0] // pair.lr.shape[0] if border is None else border


def score(
    pairs: Sequence[Pair],
    results: Iterable[np.ndarray],
    names: Sequence[str] = ("psnr_y", "ssim_y"),
    *,
    border: int | None = None,
    round_y: bool = False,
) -> list[dict[str, float]]:
    """Metrics of each picture, on 8-bit results as they would stand in files.

    Args:
      pairs: the pictures.
      results: uint8, in the shape of each pair's `hr`.
      names: in `metrics.METRICS`.
      border: pixels left out at each side; None is the scale, as papers have it.
      round_y: round the luma to 8 bits before comparing.

    Returns:
      For each picture, name of the metric to value.
    """
    check_sizes(pairs, names, border)
    canvas = np.max([pair.hr.shape[:2] for pair in pairs], axis=0)
    measures = {name: metrics.find(name) for name in names}
    rows = []
    for pair, result in zip(pairs, results, strict=True):
        if result.shape != pair.hr.shape:
            raise ValueError(f"{pair.name}: expected a result of {pair.hr.shape}, got {result.shape}")
        options = {
            "border": _border(pair, border),
            "channel": ("gray" if pair.gray else "y") + ("8" if round_y else ""),
            "size": pair.hr.shape[:2],
        }
        both = (_onto_canvas(result, canvas), _onto_canvas(pair.hr, canvas))
        try:
            rows.append({name: float(measure(*both, **options)) for name, measure in measures.items()})
        except UserError as error:
            raise UserError(f"{pair.name}: {error}") from None
    return rows


def mean(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each metric over the pictures."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def bootstrap_interval(differences: Sequence[float], *, draws: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """A 95 % interval of the mean of paired differences, by resampling the pictures (percentile method)."""
    values = np.asarray(differences, np.float64)
    chosen = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    low, high = np.percentile(values[chosen].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
