"""Image quality, as papers on super-resolution measure it: per image, `[H, W, 3]` RGB in [0, 1].

A new metric is one function and one line in `METRICS`.
"""

from srgan_jax.evaluation.metrics import lpips, niqe, vgg54
from srgan_jax.evaluation.metrics.common import CHANNELS
from srgan_jax.evaluation.metrics.fidelity import ms_ssim, psnr, ssim, ssim_daala
from srgan_jax.runtime.errors import lookup

__all__ = [
    "CHANNELS",
    "LOWER_IS_BETTER",
    "METRICS",
    "NEED_WEIGHTS",
    "SMALLEST_PX",
    "find",
    "ms_ssim",
    "psnr",
    "ssim",
    "ssim_daala",
]
METRICS = {  # (sr, hr, border=, channel=, size=) -> scalar; those in RGB ignore the channel
    "psnr_y": psnr,
    "ssim_y": ssim,
    "ssim_daala": ssim_daala,
    "ms_ssim": ms_ssim,
    "psnr_rgb": lambda sr, hr, *, channel="rgb", **kwargs: psnr(sr, hr, channel="rgb", **kwargs),
    "niqe": niqe.niqe,
    "lpips_alex": lpips.lpips_alex,
    "lpips_vgg": lpips.lpips_vgg,
    "vgg54": vgg54.vgg54,
    "ssim_rgb": lambda sr, hr, *, channel="rgb", **kwargs: ssim(sr, hr, channel="rgb", **kwargs),
}
NEED_WEIGHTS = {  # reads them, or raises MissingFileError that names the command that gets them
    "niqe": niqe.niqe_weights,
    "lpips_alex": lpips.alex_weights,
    "lpips_vgg": lpips.vgg_weights,
    "vgg54": vgg54.vgg54_weights,
}
SMALLEST_PX = {"niqe": niqe.SMALLEST_PX}  # shorter and longer side of what it can judge
LOWER_IS_BETTER = ("niqe", "lpips_alex", "lpips_vgg", "vgg54")


def find(name: str):
    """The metric of that name, once its weights (if it needs any) are found.

    Raises:
      UserError: unknown name, or weights missing; the message names the command that gets them.
    """
    metric = lookup(METRICS, name, "metric")
    if name in NEED_WEIGHTS:
        NEED_WEIGHTS[name]()
    return metric
