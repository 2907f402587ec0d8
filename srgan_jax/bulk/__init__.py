"""Upscaling of files and folders, for the command `srgan-jax upscale`."""

from srgan_jax.bulk.jobs import Job, find_jobs
from srgan_jax.bulk.options import Options, settings_digest
from srgan_jax.bulk.plan import Names, plan
from srgan_jax.bulk.run import Interrupted, upscale_files
from srgan_jax.bulk.sizes import SizeOf, target_size
from srgan_jax.bulk.writer import Summary

__all__ = [
    "Interrupted",
    "Job",
    "Names",
    "Options",
    "SizeOf",
    "Summary",
    "find_jobs",
    "plan",
    "settings_digest",
    "target_size",
    "upscale_files",
]
