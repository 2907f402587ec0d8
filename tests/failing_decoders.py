"""Decoders that fail as libraries of C do, for tests: they are imported in the processes that decode files."""

import os
import signal
import time

import numpy as np

from srgan_jax.images import decode, video_reader


def _read(file, how):
    return decode._decode_or_repair(file, how)


def crash(file, how):
    """Ends the process by a segmentation fault at `b.png`."""
    if os.path.basename(file) == "b.png":
        os.kill(os.getpid(), signal.SIGSEGV)
    return _read(file, how)


def crash_later(file, how):
    """Ends the process by a segmentation fault when `b.png` is decoded for the second time."""
    if os.path.basename(file) == "b.png" and os.path.exists(file + ".read"):
        os.kill(os.getpid(), signal.SIGSEGV)
    open(file + ".read", "w").close()
    return _read(file, how)


def compute(file, how):
    """Doesn't end at `b.png`."""
    while os.path.basename(file) == "b.png":
        pass
    return _read(file, how)


def wait(file, how):
    """Waits at `b.png`, as for a disk that doesn't answer."""
    time.sleep(600 if os.path.basename(file) == "b.png" else 0)
    return _read(file, how)


def allocate(file, how):
    """Takes 6 GB at `b.png`."""
    if os.path.basename(file) == "b.png":
        np.ones(6_000_000_000, np.uint8)
    return _read(file, how)


def fail(file, how):
    """Raises an exception of a library, which can't be pickled, at `b.png`."""
    if os.path.basename(file) == "b.png":

        class LibraryError(Exception):
            pass

        raise LibraryError("a fault of a library")
    return _read(file, how)


def crash_in_video(path, *args):
    """Ends the process by a segmentation fault at the third frame of `bad.mp4`."""
    for index, frame in enumerate(video_reader._decode(path, *args)):
        if path.name == "bad.mp4" and index == 2:
            os.kill(os.getpid(), signal.SIGSEGV)
        yield frame


def compute_in_video(path, *args):
    """Needs 0.6 seconds for each frame, and doesn't end at the third of `bad.mp4`."""
    for index, frame in enumerate(video_reader._decode(path, *args)):
        end = time.process_time() + 0.6
        while time.process_time() < end or (path.name == "bad.mp4" and index == 2):
            pass
        yield frame
