"""Encoded segments of videos by PyAV; `video_join.py` joins them with the other streams."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from srgan_jax.images.formats import MAX_IN_MEMORY_BYTES
from srgan_jax.images.video_reader import COLOUR_TAGS, TimedFrame, VideoInfo, pyav
from srgan_jax.runtime.atomic import atomic_file
from srgan_jax.runtime.errors import UserError

WRITTEN = (".mp4", ".m4v", ".mov", ".mkv", ".webm")  # others become .mkv, which holds every kind of stream
DEFAULT_CODECS = {".webm": "libvpx-vp9"}  # otherwise H.264
H264 = "libx264"


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


def check_size(encoding: Encoding, info: VideoInfo) -> None:
    """Raises UserError if the encoder doesn't take frames of this size, or one would need too much memory."""
    av, (height, width) = pyav(), encoding.size
    advice = "choose a smaller --scale, or another --codec, such as libx265"
    if height * width * (6 if info.deep else 3) > MAX_IN_MEMORY_BYTES:
        raise UserError(f"a frame of the result has {width} x {height} pixels, which is too large; {advice}")
    context = av.codec.CodecContext.create(encoding.codec, "w")
    _configure(context, encoding, info)
    try:
        context.open()
    except av.FFmpegError:
        raise UserError(f"{encoding.codec} can't encode {width} x {height} pixels; {advice}") from None


def _configure(context: Any, encoding: Encoding, info: VideoInfo) -> None:
    """Sets the size, colours and quality of an encoder."""
    context.height, context.width = encoding.size
    context.pix_fmt = _pixel_format(context.codec, info)
    context.time_base = info.time_base
    context.sample_aspect_ratio = info.aspect
    context.bit_rate = 0  # otherwise VP9 limits it, whatever the quality
    context.flags |= pyav().codec.context.Flags.global_header
    for tag, value in zip(COLOUR_TAGS, info.colours, strict=True):
        setattr(context, tag, value)


def write_segment(path: Path, frames: Iterable[TimedFrame], info: VideoInfo, encoding: Encoding) -> int:
    """Encodes frames to a file of their own, atomically: times and codec's header are exact. Returns their number."""
    av, count = pyav(), 0
    with atomic_file(path) as temporary, av.open(str(temporary), "w", format="nut") as container:
        stream = container.add_stream(encoding.codec, rate=info.rate, options={"crf": str(encoding.crf)})
        context = stream.codec_context
        _configure(context, encoding, info)
        stream.time_base = info.time_base
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
    lines += ["HDR metadata (mastering display, light level, Dolby Vision) is not kept"] if info.mastered else []
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
