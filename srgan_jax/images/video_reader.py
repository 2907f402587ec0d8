"""Videos read by PyAV: what is known of them, and their decoded frames.

Inside `isolated_decoding` they are decoded in a process of its own.
"""

import contextlib
import errno
import functools
import importlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from srgan_jax.images import isolation
from srgan_jax.runtime import extras
from srgan_jax.runtime.errors import UserError

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv")
CONTAINERS = ("mov", "matroska", "avi", "mpeg", "mpegvideo", "mpegts", "asf", "flv")  # FFmpeg's names of demuxers
DECODING_THREADS = 4  # each needs frames of its own; networks take longer than any decoder
HDR_METADATA = (
    "MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL", "DYNAMIC_HDR_PLUS", "DYNAMIC_HDR_VIVID", "DOVI_METADATA",
    "DOVI_RPU_BUFFER",
)  # fmt: skip
COLOUR_TAGS = ("color_range", "color_primaries", "color_trc", "colorspace")


@functools.cache
def pyav() -> Any:
    """Returns the module `av`.

    Raises:
      UserError: it isn't installed.
    """
    extras.require("video", "upscaling of videos")
    av = importlib.import_module("av")
    av.logging.set_libav_level(av.logging.FATAL)  # FFmpeg prints warnings to stderr; errors are exceptions
    return av


class Limits(NamedTuple):
    """Limits of a video: the pixels of a frame, and the seconds of processor time in which it must be decoded."""

    max_pixels: int
    max_seconds: float


class VideoInfo(NamedTuple):
    """What is known of a video before it is decoded.

    Attributes:
      size: height and width as it is shown, that is after rotation.
      frames: number of frames; an estimate where the file doesn't state it.
      pixel_format: name of the pixel format.
      time_base: unit of `TimedFrame.time`, in seconds.
      rate: mean number of frames a second.
      aspect: width of a pixel by its height, after rotation.
      colours: values of COLOUR_TAGS.
      interlaced: whether frames consist of two fields.
      bits: largest number of bits of a sample.
      transparent: whether the video has alpha.
      mastered: whether frames have metadata of HDR, such as the light level.
    """

    size: tuple[int, int]
    frames: int
    pixel_format: str
    time_base: Fraction
    rate: Fraction
    aspect: Fraction
    colours: tuple[int, ...]
    interlaced: bool
    bits: int
    transparent: bool
    mastered: bool

    @property
    def deep(self) -> bool:
        """Whether the samples have more than 8 bits."""
        return self.bits > 8


class TimedFrame(NamedTuple):
    """A frame `[H, W, 3]`, uint8 or uint16, RGB, and its time in units of `VideoInfo.time_base`."""

    samples: np.ndarray
    time: int


def _lenient(av: Any) -> dict[str, str]:  # metadata that isn't UTF-8 is no error; PyAV 19 has no such option
    return {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


def moving(container: Any) -> Any:
    """Returns the first stream of moving images, or None; a cover is a stream of one image."""
    cover = pyav().stream.Disposition.attached_pic
    return next((stream for stream in container.streams.video if not stream.disposition & cover), None)


def open_container(path: Path) -> Any:
    """Opens a video file.

    Only the demuxers of `CONTAINERS` may run: a playlist, whatever its name, would have FFmpeg read other files.

    Raises:
      UserError: the content of the file is in none of these formats.
      FFmpegError: it is damaged.
    """
    av, limits = pyav(), {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file"}
    try:
        return av.open(f"file:{path}", options=limits, **_lenient(av))
    except av.error.ArgumentError:
        raise UserError(f"{path}: expected a video in one of the formats {', '.join(CONTAINERS)}") from None


@contextlib.contextmanager
def _opened(path: Path, max_pixels: int) -> Iterator[tuple[Any, Any]]:
    """Opens a video; gives the container and its first stream of moving images, of at most `max_pixels` a frame."""
    av = pyav()
    try:
        with open_container(path) as container:
            stream = moving(container)
            if stream is None:
                raise UserError(f"{path}: no video in this file")
            if stream.codec_context is None:
                raise UserError(f"{path}: FFmpeg knows no decoder for this video")
            if (area := stream.codec_context.width * stream.codec_context.height) > max_pixels:
                raise UserError(
                    f"{path}: {area / 1e6:,.4g} megapixels a frame, more than {max_pixels / 1e6:,.4g}, the limit that "
                    "--max-pixels sets"
                )
            stream.thread_type, stream.codec_context.thread_count = "AUTO", DECODING_THREADS
            stream.codec_context.options = {"max_pixels": str(2 * max_pixels)}  # of a later frame; sides are rounded up
            yield container, stream
    except av.FFmpegError as error:
        if error.errno in (errno.ENOMEM, errno.EAGAIN):  # EAGAIN: no memory for a thread
            raise UserError(f"{path}: decoding needs more memory than the limit") from None
        raise UserError(f"{path}: {error.strerror or error}") from None


def read_info(path: Path, limits: Limits) -> VideoInfo:
    """Returns what is known of a video.

    Raises:
      UserError: PyAV isn't installed, the file isn't a video, or its first frame is beyond the limits.
    """
    return isolation.run(limits.max_seconds, limits.max_pixels, _read_info, path.absolute(), limits.max_pixels)


def _read_info(path: Path, max_pixels: int) -> VideoInfo:
    with _opened(path, max_pixels) as (container, stream):
        frame = next(container.decode(stream), None)
        if frame is None:
            raise UserError(f"{path}: no frame of this video can be decoded")
        context, turned = stream.codec_context, frame.rotation % 180 != 0
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        seconds = stream.duration * stream.time_base if stream.duration else Fraction(container.duration or 0, 10**6)
        aspect = context.sample_aspect_ratio or Fraction(1)
        return VideoInfo(
            size=(frame.width, frame.height) if turned else (frame.height, frame.width),
            frames=stream.frames or max(1, round(seconds * rate)),
            bits=max(component.bits for component in frame.format.components),
            transparent=stream.metadata.get("alpha_mode") == "1"
            or any(component.is_alpha for component in frame.format.components),
            # The items are types in PyAV 19, and have types in PyAV 18.
            mastered=any(getattr(item, "type", item).name in HDR_METADATA for item in frame.side_data),
            pixel_format=frame.format.name,
            time_base=stream.time_base,
            rate=rate,
            aspect=1 / aspect if turned else aspect,
            colours=tuple(int(getattr(context, tag)) for tag in COLOUR_TAGS),
            interlaced=frame.interlaced_frame,
        )


def read_frames(path: Path, info: VideoInfo, limits: Limits, start: int = 0) -> Iterator[TimedFrame]:
    """Yields the frames of a video from number `start` on, upright; a time that is missing or not later is repaired.

    Raises:
      UserError: the video is damaged, the size of its frames changes, or a frame is beyond the limits.
    """
    arguments = path.absolute(), info, limits.max_pixels, start
    for frame in isolation.stream(limits.max_seconds, limits.max_pixels, _decode, *arguments):
        if isinstance(frame, TimedFrame):
            yield frame


def _decode(path: Path, info: VideoInfo, max_pixels: int, start: int) -> Iterator[TimedFrame | int]:
    """Yields frames as `read_frames`, and the times of those before `start`: the time limit is that of one item."""
    step, last = max(1, round(1 / (info.rate * info.time_base))), None
    with _opened(path, max_pixels) as (container, stream):
        for index, frame in enumerate(container.decode(stream)):
            time = frame.pts if frame.pts is not None else (last or 0) + step
            time = time if last is None or time > last else last + 1
            last = time
            if index < start:
                yield time
            else:
                samples = frame.to_ndarray(format="rgb48le" if info.deep else "rgb24")
                samples = np.ascontiguousarray(np.rot90(samples, round(frame.rotation / 90) % 4))
                if samples.shape[:2] != info.size:
                    raise UserError(
                        f"{path}: frame {index + 1} has {samples.shape[1]} x {samples.shape[0]} pixels, the first "
                        f"{info.size[1]} x {info.size[0]}; cut the video where its size changes"
                    )
                yield TimedFrame(samples, time)
