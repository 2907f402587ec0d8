"""Upscaling of files and folders, for the command `srgan-jax upscale`."""

from srgan_jax.bulk.jobs import Job, SizeOf, find_jobs, target_size
from srgan_jax.bulk.run import plan, upscale_files
from srgan_jax.bulk.video import upscale_video, video_target
from srgan_jax.bulk.video_file import SUFFIXES as VIDEO_SUFFIXES
from srgan_jax.bulk.writer import Summary

__all__ = [
    "VIDEO_SUFFIXES",
    "Job",
    "SizeOf",
    "Summary",
    "find_jobs",
    "plan",
    "target_size",
    "upscale_files",
    "upscale_video",
    "video_target",
]
