"""Upscaling of files and folders, for the command `srgan-jax upscale`."""

from srgan_jax.bulk.failures import describe
from srgan_jax.bulk.jobs import Job, count_others, expand, find_jobs
from srgan_jax.bulk.options import Options, settings_digest
from srgan_jax.bulk.planning import Names, plan
from srgan_jax.bulk.run import Interrupted, upscale_files
from srgan_jax.bulk.sizes import SizeOf, target_size
from srgan_jax.bulk.video import upscale_video, video_target
from srgan_jax.bulk.video_jobs import VideoNames, find_video_jobs
from srgan_jax.bulk.writer import Summary
from srgan_jax.images.video_reader import SUFFIXES as VIDEO_SUFFIXES

__all__ = [
    "VIDEO_SUFFIXES",
    "Interrupted",
    "Job",
    "Names",
    "Options",
    "SizeOf",
    "Summary",
    "VideoNames",
    "count_others",
    "describe",
    "expand",
    "find_jobs",
    "find_video_jobs",
    "plan",
    "settings_digest",
    "target_size",
    "upscale_files",
    "upscale_video",
    "video_target",
]
