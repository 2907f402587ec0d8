"""Bounds on what a file may ask for, checked before it is decoded: pixels, bytes, frames, seconds."""

import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from srgan_jax.images.errors import ImageError, check_pixels

T = TypeVar("T")
MAX_PIXELS = 256_000_000  # of an image, all frames together
MAX_SECONDS = 45.0  # for decoding an image, or a frame of a video
MAX_MEMORY_BYTES = 4 << 30  # that a decoder may take in a process of its own, for up to `MAX_PIXELS`
MAX_FRAMES = 4096  # pages of a TIFF
BYTES_PER_PIXEL = 8  # of decoded samples: four of 16 bits; `max_pixels` such pixels is the limit in bytes
JPEG_SCANS = 20  # an image of `max_pixels` may have so many; smaller ones may have more
__all__ = [
    "MAX_FRAMES",
    "MAX_MEMORY_BYTES",
    "MAX_PIXELS",
    "MAX_SECONDS",
    "check_bytes",
    "check_frames",
    "check_pixels",
    "load_per_processor",
    "with_timeout",
]


def check_frames(count: int) -> None:
    """Raises ImageError for more than `MAX_FRAMES` frames or pages."""
    if count > MAX_FRAMES:
        raise ImageError(f"more than {MAX_FRAMES} frames or pages, the limit")


def check_bytes(count: float, max_pixels: int) -> None:
    """Raises ImageError for more decoded bytes than `max_pixels` pixels of four samples of 16 bits have."""
    if count > BYTES_PER_PIXEL * max_pixels:
        raise ImageError(
            f"{count / 1e6:,.4g} MB of samples, more than the limit of {BYTES_PER_PIXEL * max_pixels / 1e6:,.4g} MB "
            f"for {max_pixels / 1e6:,.4g} megapixels"
        )


def check_scans(stream: Any, pixels: int, max_pixels: int) -> None:
    """Raises ImageError for a progressive JPEG with so many scans that decoding them would take minutes.

    Each scan passes over all pixels. A marker of a scan can't occur in compressed data, so counting it is enough.
    """
    position, count = stream.tell(), 0
    stream.seek(0)
    while chunk := stream.read(1 << 20):
        count += chunk.count(b"\xff\xda")
    stream.seek(position)
    if count * pixels > JPEG_SCANS * max_pixels:
        raise ImageError(
            f"JPEG of {count} scans of {pixels / 1e6:,.4g} megapixels, which would take too long; expected at most "
            f"{JPEG_SCANS * max_pixels // pixels} scans"
        )


def with_timeout(seconds: float, function: Callable[[], T]) -> T:
    """Returns the result of `function`, or raises its exception.

    It runs in a thread. A decoder can't be interrupted: after `seconds` its result is no longer waited for. While more
    threads want to run than there are processors, the time is longer in proportion.

    Raises:
      ImageError: `function` took longer than `seconds`.
    """
    outcome: list[Any] = []

    def call() -> None:
        try:
            outcome.extend((True, function()))
        except BaseException as error:
            outcome.extend((False, error))

    # A daemon thread doesn't delay the end of the program.
    thread = threading.Thread(target=call, daemon=True, name="decoding")
    thread.start()
    seconds *= load_per_processor()
    thread.join(seconds)
    if len(outcome) < 2:
        raise ImageError(f"not decoded within {seconds:.3g} seconds; --max-seconds sets this limit")
    if not outcome[0]:
        raise outcome[1]
    return outcome[1]


def load_per_processor() -> float:
    """Returns the threads that want to run, in the last minute, divided by the processors; at least 1."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # Windows has none
    return max(1.0, load / (os.cpu_count() or 1))
