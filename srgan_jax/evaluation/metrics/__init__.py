"""Metrics of image quality that papers on super-resolution report. They take images `[H, W, 3]` RGB in [0, 1].

To add a metric, write a function and add an entry to `METRICS`.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from srgan_jax.evaluation.metrics import lpips, niqe, texture, vgg54
from srgan_jax.evaluation.metrics.common import CHANNELS, MIN_SIDE_PX
from srgan_jax.evaluation.metrics.fidelity import ms_ssim, psnr, ssim, ssim_daala
from srgan_jax.runtime.errors import UserError, lookup
from srgan_jax.runtime.interfaces import check_parameters

__all__ = [
    "CHANNELS", "GROUPS", "METRICS", "Metric", "check_bands", "expand", "find", "find_all", "ms_ssim", "pooled", "psnr",
    "ssim", "ssim_daala", "usual",
]  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _mean_without_nan(values: Sequence[float]) -> float:
    found = np.asarray(values)[~np.isnan(values)]
    return float(found.mean()) if len(found) else float("nan")


class Metric(NamedTuple):
    """An entry of `METRICS`; calling it calls its function.

    Attributes:
      function: `(sr, hr, *, border, channel, size) -> scalar`; metrics on RGB ignore the channel.
      lower_is_better: whether lower scores are better.
      weights: function that reads its weights, or raises MissingFileError with the command that creates them.
      smallest_px: shorter and longer side, without borders, of the smallest image that it can score.
      caption: description below tables; "" if the name is sufficient.
      digits: decimal places in tables.
      target: the best value of a two-sided metric, which is neither better where it is lower nor where it is higher.
      pool: the values of the images to the value of a set, by default the mean.
      bands: the numbers of bands that it takes; () for any.
    """

    function: Callable[..., jax.Array | np.ndarray | float]
    lower_is_better: bool = False
    weights: Callable[[], object] | None = None
    smallest_px: tuple[int, int] = (MIN_SIDE_PX, MIN_SIDE_PX)
    caption: str = ""
    digits: int = 4
    target: float | None = None
    pool: Callable[[Sequence], float] = _mean
    bands: tuple[int, ...] = ()

    def __call__(
        self, sr: jax.Array | np.ndarray, hr: jax.Array | np.ndarray, **options: object
    ) -> jax.Array | np.ndarray | float:
        """Returns the score of SR `[H, W, 3]` in [0, 1]."""
        return self.function(sr, hr, **options)


def on_all_bands(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Returns the metric computed on all bands; its argument `channel` is ignored."""

    @functools.wraps(function)
    def on_all(sr: jax.Array, hr: jax.Array, *, channel: str = "rgb", **options: object) -> jax.Array:
        del channel
        return function(sr, hr, channel="rgb", **options)

    return on_all


GRAY_OR_RGB, RGB = (1, 3), (3,)
METRICS: dict[str, Metric] = {
    "psnr_y": Metric(psnr, digits=3, bands=GRAY_OR_RGB),
    "ssim_y": Metric(ssim, caption="Wang, 11 x 11 gaussian, sigma 1.5, valid windows", bands=GRAY_OR_RGB),
    "ssim_daala": Metric(ssim_daala, caption="daala's dump_ssim on 8-bit Y", bands=GRAY_OR_RGB),
    "ms_ssim": Metric(ms_ssim, caption="five scales, on Y", bands=GRAY_OR_RGB),
    "psnr": Metric(on_all_bands(psnr), digits=3, caption="over all bands"),
    "ssim": Metric(on_all_bands(ssim), caption="as ssim_y, mean over all bands"),
    "psnr_rgb": Metric(on_all_bands(psnr), digits=3, bands=RGB),
    "niqe": Metric(
        niqe.niqe, True, niqe.niqe_weights, niqe.SMALLEST_PX, bands=RGB, caption="MATLAB's Y rounded, blocks of 96 px"
    ),
    "lpips_alex": Metric(lpips.lpips_alex, True, lpips.alex_weights, bands=RGB, caption="v0.1 on RGB, AlexNet"),
    "lpips_vgg": Metric(lpips.lpips_vgg, True, lpips.vgg_weights, bands=RGB, caption="v0.1 on RGB, VGG16"),
    "vgg54": Metric(
        vgg54.vgg54, True, vgg54.vgg54_weights, bands=RGB,
        caption="mean squared difference of VGG19's relu5_4 features, over 12.75 with Caffe's weights",
    ),
    "ssim_rgb": Metric(on_all_bands(ssim), bands=RGB),
    "lr_psnr": Metric(
        texture.lr_psnr, smallest_px=texture.SMALLEST_PX, bands=RGB, digits=1,
        caption="dB between SR and HR after MATLAB's bicubic to a quarter, 8 bits; for LR made by bicubic",
    ),
    "v34": Metric(
        texture.v34, True, vgg54.vgg54_weights, texture.SMALLEST_PX, bands=RGB, digits=3,
        caption="mean squared distance of VGG19's relu3_4 over its variance in HR",
    ),
    "power_25": Metric(
        functools.partial(texture.power, low=0.25, high=0.375), smallest_px=texture.SMALLEST_PX, bands=RGB,
        digits=1, target=0.0,
        caption="dB, luma's power at .25 to .375 cycles/px over HR's",
    ),
    "power_375": Metric(
        functools.partial(texture.power, low=0.375, high=0.5), smallest_px=texture.SMALLEST_PX, bands=RGB,
        digits=1, target=0.0,
        caption="dB, luma's power at .375 to .5 cycles/px over HR's",
    ),
    "place": Metric(
        texture.place, smallest_px=texture.SMALLEST_PX, bands=RGB, digits=3,
        caption="correlation with HR of the log energy of high frequencies, blocks of 16 px: texture where HR has it",
    ),
    "flat": Metric(
        texture.flat, smallest_px=texture.SMALLEST_PX, bands=RGB, digits=2, target=1.0, pool=_mean_without_nan,
        caption="amplitude of high frequencies over HR's where HR is flat; above 1: noise",
    ),
    "phase": Metric(
        texture.lattice, True, smallest_px=texture.SMALLEST_PX, bands=RGB, digits=3, pool=texture.phase,
        caption="largest over smallest energy on a lattice of 4 x 4 px, of the whole set; HR: about 1.02",
    ),
    "mesh": Metric(
        texture.mesh, smallest_px=texture.SMALLEST_PX, bands=RGB, digits=2, target=1.0,
        caption="part of the high frequencies that repeats every 4 px in blocks of 32 px, over HR's; above 1: a mesh",
    ),
}  # fmt: skip
GROUPS = {"texture": ("psnr_y", "lr_psnr", "v34", "power_25", "power_375", "place", "flat", "phase")}


def expand(names: Iterable[str]) -> list[str]:
    """Returns the names with those of `GROUPS` replaced by their metrics, each name once."""
    return list(dict.fromkeys(metric for name in names for metric in GROUPS.get(name, (name,))))


def pooled(name: str, values: Sequence) -> float:
    """Returns the value of a set of images of the metric `name`, of the values of its images."""
    entry = METRICS.get(name)
    return (entry.pool if isinstance(entry, Metric) else _mean)(values)


def find(name: str) -> Metric:
    """Returns the metric of that name and checks that its weights exist.

    Raises:
      UserError: unknown name, or missing weights; the message contains the command that creates them.
    """
    entry = lookup(METRICS, name, "metric")
    metric = entry if isinstance(entry, Metric) else Metric(entry)  # a plain function gets the defaults
    check_parameters(
        metric.function, ("border", "channel", "size"), f"metric {name!r}", "(sr, hr, *, border, channel, size)"
    )
    if metric.weights is not None:
        metric.weights()
    return metric


def check_bands(names: Iterable[str], count: int, where: str) -> None:
    """Raises UserError, which begins with `where`, if one of the metrics doesn't take images of `count` bands."""
    able = [name for name, entry in METRICS.items() if _takes(entry, count)]
    if refused := [name for name in names if not _takes(lookup(METRICS, name, "metric"), count)]:
        listed = ", ".join(f"{name} takes {' or '.join(map(str, METRICS[name].bands))}" for name in refused)
        raise UserError(f"{where}: {listed} bands, but the images have {count}; expected some of {', '.join(able)}")


def _takes(entry: object, count: int) -> bool:
    return not isinstance(entry, Metric) or not entry.bands or count in entry.bands


def usual(count: int) -> tuple[str, str]:
    """Returns PSNR and SSIM for images of `count` bands: of luma, or else of all bands."""
    return ("psnr_y", "ssim_y") if count in GRAY_OR_RGB else ("psnr", "ssim")


def find_all(names: Iterable[str]) -> dict[str, Metric]:
    """Returns `find` of each name."""
    return {name: find(name) for name in names}
