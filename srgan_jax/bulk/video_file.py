"""Videos by PyAV: decoded frames and encoded segments; `video_join.py` joins them with the other streams."""

import contextlib
import functools
import importlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from srgan_jax.runtime import extras
from srgan_jax.runtime.atomic import atomic_file
from srgan_jax.runtime.errors import UserError

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv")
WRITTEN = (".mp4", ".m4v", ".mov", ".mkv", ".webm")  # others become .mkv, which holds every kind of stream
DEFAULT_CODECS = {".webm": "libvpx-vp9"}  # otherwise H.264
H264 = "libx264"
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


class VideoInfo(NamedTuple):
    """What is known of a video before it is decoded.

    Attributes:
      size: height and width as it is shown, that is after rotation.
      frames: number of frames; an estimate where the file doesn't state it.
      deep: whether the samples have more than 8 bits.
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
    deep: bool
    pixel_format: str
    time_base: Fraction
    rate: Fraction
    aspect: Fraction
    colours: tuple[int, ...]
    interlaced: bool
    bits: int
    transparent: bool
    mastered: bool


class TimedFrame(NamedTuple):
    """A frame `[H, W, 3]`, uint8 or uint16, RGB, and its time in units of `VideoInfo.time_base`."""

    samples: np.ndarray
    time: int


def lenient(av: Any) -> dict[str, str]:
    """Returns the options by which metadata that isn't UTF-8 is no error; PyAV 19 needs none."""
    return {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Opens a video; gives the container and its first stream of moving images."""
    av = pyav()
    try:
        with av.open(str(path), **lenient(av)) as container:
            stream = moving(container)
            if stream is None:
                raise UserError(f"{path}: no video in this file")
            stream.thread_type = "AUTO"
            yield container, stream
    except av.FFmpegError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None


def moving(container: Any) -> Any:
    """Returns the first stream of moving images, or None; a cover is a stream of one image."""
    cover = pyav().stream.Disposition.attached_pic
    return next((stream for stream in container.streams.video if not stream.disposition & cover), None)


def read_info(path: Path) -> VideoInfo:
    """Returns what is known of a video.

    Raises:
      UserError: PyAV isn't installed, or the file isn't a video.
    """
    with _opened(path) as (container, stream):
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
            deep=any(component.bits > 8 for component in frame.format.components),
            bits=max(component.bits for component in frame.format.components),
            transparent=stream.metadata.get("alpha_mode") == "1"
            or any(component.is_alpha for component in frame.format.components),
            mastered=any(data.type.name in HDR_METADATA for data in frame.side_data),
            pixel_format=frame.format.name,
            time_base=stream.time_base,
            rate=rate,
            aspect=1 / aspect if turned else aspect,
            colours=tuple(int(getattr(context, tag)) for tag in COLOUR_TAGS),
            interlaced=frame.interlaced_frame,
        )


def read_frames(path: Path, info: VideoInfo, start: int = 0) -> Iterator[TimedFrame]:
    """Yields the frames of a video from number `start` on, upright; a time that is missing or not later is repaired.

    Raises:
      UserError: the video is damaged.
    """
    step, last = max(1, round(1 / (info.rate * info.time_base))), None
    with _opened(path) as (container, stream):
        for index, frame in enumerate(container.decode(stream)):
            time = frame.pts if frame.pts is not None else (last or 0) + step
            time = time if last is None or time > last else last + 1
            last = time
            if index >= start:
                samples = frame.to_ndarray(format="rgb48le" if info.deep else "rgb24")
                yield TimedFrame(np.ascontiguousarray(np.rot90(samples, round(frame.rotation / 90) % 4)), time)


class Encoding(NamedTuple):
    """How a video is encoded.

    Attributes:
      codec: name of the encoder, as FFmpeg calls it.
      crf: constant rate factor: quality, where 0 is the best.
      size: height and width, even.
    """

    codec: str
    crf: int
    size: tuple[int, int]


def check_codec(codec: str) -> None:
    """Raises UserError unless `codec` is an encoder of video."""
    av = pyav()
    try:
        found = av.codec.Codec(codec, "w")
    except (ValueError, av.FFmpegError):
        found = None
    if found is None or found.type != "video":
        raise UserError(f"--codec {codec}: expected a video encoder of FFmpeg, such as libx264, libx265 or libsvtav1")


def write_segment(path: Path, frames: Iterable[TimedFrame], info: VideoInfo, encoding: Encoding) -> int:
    """Encodes frames to a file of their own, atomically: times and codec's header are exact. Returns their number."""
    av, count = pyav(), 0
    with atomic_file(path) as temporary, av.open(str(temporary), "w", format="nut") as container:
        stream = container.add_stream(encoding.codec, rate=info.rate, options={"crf": str(encoding.crf)})
        context = stream.codec_context
        context.height, context.width = encoding.size
        context.pix_fmt = _pixel_format(context.codec, info)
        context.time_base = info.time_base
        stream.time_base = info.time_base
        context.sample_aspect_ratio = info.aspect
        context.bit_rate = 0  # otherwise VP9 limits it, whatever the quality
        context.flags |= av.codec.context.Flags.global_header
        for tag, value in zip(COLOUR_TAGS, info.colours, strict=True):
            setattr(context, tag, value)
        for samples, time in frames:
            frame = av.VideoFrame.from_ndarray(samples, format="rgb48le" if samples.dtype == np.uint16 else "rgb24")
            frame = frame.reformat(format=context.pix_fmt, **_target_colours(info))
            frame.pts, frame.time_base = time + shift(info.time_base), info.time_base
            container.mux(stream.encode(frame))
            count += 1
        container.mux(stream.encode(None))
    return count


def losses(info: VideoInfo, codec: str) -> list[str]:
    """Returns a line for each part of the samples that isn't kept: transparency, bits."""
    av = pyav()
    components = av.VideoFormat(_pixel_format(av.codec.Codec(codec, "w"), info)).components
    lines = ["transparency is not kept"] if info.transparent else []
    lines += ["HDR metadata (mastering display, light level, Dolby Vision) are not kept"] if info.mastered else []
    written = max(component.bits for component in components)
    return lines + [f"{info.bits} bits become {written}"] * (written < info.bits)


def shift(time_base: Fraction) -> int:
    """Returns what is added to times in segments, ten hours: NUT has no negative times, and would move them itself."""
    return round(36_000 / time_base)


def _pixel_format(codec: Any, info: VideoInfo) -> str:
    """Returns the pixel format of the source if the encoder has it, otherwise 4:2:0 of 10 or 8 bits."""
    names = [form.name for form in codec.video_formats or ()]
    choices = [info.pixel_format, *(["yuv420p10le"] if info.deep else []), "yuv420p", *names]
    return next(name for name in choices if not names or name in names)


def _target_colours(info: VideoInfo) -> dict[str, int]:
    """Returns the matrix and range with which the decoder made RGB, so that the encoder inverts it."""
    colours = dict(zip(COLOUR_TAGS, info.colours, strict=True))
    return {"dst_colorspace": colours["colorspace"], "dst_color_range": colours["color_range"]}
