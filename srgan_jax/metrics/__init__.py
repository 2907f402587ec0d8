"""Picture quality, as papers on super-resolution measure it: per image, `[H, W, 3]` RGB in [0, 1].

A new metric is one function and one line in `METRICS`.
"""

from srgan_jax.errors import lookup
from srgan_jax.metrics import naturalness, perceptual
from srgan_jax.metrics.common import CHANNELS
from srgan_jax.metrics.fidelity import ms_ssim, psnr, ssim, ssim_daala

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
    "niqe": naturalness.niqe,
    "lpips_alex": perceptual.lpips_alex,
    "lpips_vgg": perceptual.lpips_vgg,
    "vgg54": perceptual.vgg54,
    "ssim_rgb": lambda sr, hr, *, channel="rgb", **kwargs: ssim(sr, hr, channel="rgb", **kwargs),
}

NEED_WEIGHTS = {
    "niqe": naturalness.niqe_weights
} | perceptual.NEED_WEIGHTS  # reads them, or says which command gets them
SMALLEST_PX = {"niqe": naturalness.SMALLEST_PX}  # shorter and longer side of what it can judge
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
