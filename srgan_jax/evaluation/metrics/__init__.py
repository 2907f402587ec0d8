"""Image quality, as papers on super-resolution measure it: per image, `[H, W, 3]` RGB in [0, 1].

A new metric is one function and one entry in `METRICS`.
"""

import functools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import numpy as np

from srgan_jax.evaluation.metrics import lpips, niqe, vgg54
from srgan_jax.evaluation.metrics.common import CHANNELS, MIN_SIDE_PX
from srgan_jax.evaluation.metrics.fidelity import ms_ssim, psnr, ssim, ssim_daala
from srgan_jax.runtime.errors import lookup
from srgan_jax.runtime.interfaces import check_parameters

__all__ = ["CHANNELS", "METRICS", "Metric", "find", "find_all", "ms_ssim", "psnr", "ssim", "ssim_daala"]


class Metric(NamedTuple):
    """An entry of `METRICS`; it can be called as its function is.

    Attributes:
      function: `(sr, hr, *, border, channel, size) -> scalar`; those in RGB ignore the channel.
      lower_is_better: its direction.
      weights: reads the weights that it needs, or raises MissingFileError that names the command that makes them.
      smallest_px: shorter and longer side, without borders, of the smallest image that it can score.
      caption: what it is, to stand under a table; "" where the name says it.
      digits: decimal places in tables.
    """

    function: Callable[..., jax.Array | float]
    lower_is_better: bool = False
    weights: Callable[[], object] | None = None
    smallest_px: tuple[int, int] = (MIN_SIDE_PX, MIN_SIDE_PX)
    caption: str = ""
    digits: int = 4

    def __call__(self, sr: jax.Array | np.ndarray, hr: jax.Array | np.ndarray, **options: object) -> jax.Array | float:
        """Returns the score of SR `[H, W, 3]` in [0, 1]."""
        return self.function(sr, hr, **options)


def in_rgb(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Returns a metric on RGB, whatever channel it is asked for."""

    @functools.wraps(function)
    def on_rgb(sr: jax.Array, hr: jax.Array, *, channel: str = "rgb", **options: object) -> jax.Array:
        del channel
        return function(sr, hr, channel="rgb", **options)

    return on_rgb


METRICS: dict[str, Metric] = {
    "psnr_y": Metric(psnr, digits=3),
    "ssim_y": Metric(ssim, caption="Wang, 11 x 11 gaussian, sigma 1.5, valid windows"),
    "ssim_daala": Metric(ssim_daala, caption="daala's dump_ssim on 8-bit Y"),
    "ms_ssim": Metric(ms_ssim, caption="five scales, on Y"),
    "psnr_rgb": Metric(in_rgb(psnr), digits=3),
    "niqe": Metric(
        niqe.niqe, True, niqe.niqe_weights, niqe.SMALLEST_PX, caption="MATLAB's Y rounded, blocks of 96 px"
    ),
    "lpips_alex": Metric(lpips.lpips_alex, True, lpips.alex_weights, caption="v0.1 on RGB, AlexNet"),
    "lpips_vgg": Metric(lpips.lpips_vgg, True, lpips.vgg_weights, caption="v0.1 on RGB, VGG16"),
    "vgg54": Metric(
        vgg54.vgg54, True, vgg54.vgg54_weights,
        caption="mean squared difference of VGG19's relu5_4 features, over 12.75 with Caffe's weights",
    ),
    "ssim_rgb": Metric(in_rgb(ssim)),
}  # fmt: skip


def find(name: str) -> Metric:
    """Returns the metric of that name, once its weights (if it needs any) are found.

    Raises:
      UserError: unknown name, or weights missing; the message names the command that makes them.
    """
    entry = lookup(METRICS, name, "metric")
    metric = entry if isinstance(entry, Metric) else Metric(entry)  # a plain function has the defaults
    check_parameters(
        metric.function, ("border", "channel", "size"), f"metric {name!r}", "(sr, hr, *, border, channel, size)"
    )
    if metric.weights is not None:
        metric.weights()
    return metric


def find_all(names: Iterable[str]) -> dict[str, Metric]:
    """Returns `find` of each name."""
    return {name: find(name) for name in names}
