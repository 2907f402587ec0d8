"""Upscaling files and folders: the work of `srgan-jax upscale`."""

from srgan_jax.files.jobs import Job, SizeOf, find_jobs, target_size
from srgan_jax.files.results import Summary
from srgan_jax.files.upscaling import plan, upscale_files

__all__ = ["Job", "SizeOf", "Summary", "find_jobs", "plan", "target_size", "upscale_files"]
