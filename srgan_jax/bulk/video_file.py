"""Encoded segments of videos by PyAV, and their joining with the other streams of the source."""

import contextlib
import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from srgan_jax.bulk.video_reader import COLOUR_TAGS, TimedFrame, VideoInfo, moving, open_container, pyav
from srgan_jax.images.formats import MAX_IN_MEMORY_BYTES
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
            frame.pts, frame.time_base = time + _shift(info.time_base), info.time_base
            container.mux(stream.encode(frame))
            count += 1
        container.mux(stream.encode(None))
    return count


def _shift(time_base: Fraction) -> int:
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


def join(segments: Sequence[Path], source: Path, target: Path) -> list[str]:
    """Writes a video from encoded segments and the other streams, chapters and metadata of the source, atomically.

    Returns:
      A note for each stream that isn't kept.

    Raises:
      UserError: the format of `target` can't hold the codec.
    """
    av = pyav()
    for kinds in (("audio", "subtitle", "attachment", "video"), ("audio",), ()):
        try:
            return _join(segments, source, target, kinds)
        except av.FFmpegError as error:
            problem = error
    raise UserError(
        f"{target.suffix} can't hold the video: {problem.strerror or problem}; -o NAME.mkv holds every codec"
    )


def _join(segments: Sequence[Path], source: Path, target: Path, kinds: tuple[str, ...]) -> list[str]:
    """Does what `join` does, with the streams of these kinds."""
    av = pyav()
    with contextlib.ExitStack() as stack:
        container = stack.enter_context(open_container(source))
        temporary = stack.enter_context(atomic_file(target))
        first = stack.enter_context(av.open(str(segments[0])))
        out = stack.enter_context(av.open(str(temporary), "w", format=_muxer(target)))
        original, others, notes = moving(container), {}, []
        video = out.add_stream_from_template(first.streams.video[0])
        for tag in COLOUR_TAGS:  # VP9 doesn't hold them all
            setattr(video.codec_context, tag, getattr(original.codec_context, tag))
        _describe(video, original)
        for stream in container.streams:
            titles = stream.type == "data" and stream.name == "bin_data"  # of chapters, which are written anew
            if stream.index == original.index or titles:
                continue
            if stream.type not in kinds or (stream.type == "attachment" and target.suffix != ".mkv"):
                notes.append(f"{stream.type} stream {stream.index} isn't kept")
            elif stream.type == "attachment":
                out.add_attachment(stream.name or "attachment", stream.mimetype or "", stream.data)
            else:
                others[stream.index] = out.add_stream_from_template(stream)
                _describe(others[stream.index], stream)
        out.metadata.update(container.metadata)
        if chapters := container.chapters():
            out.set_chapters(chapters)
        out.start_encoding()
        both = _video_packets(segments, video), _copied_packets(container, others)
        for packet in heapq.merge(*both, key=lambda packet: packet.dts * packet.time_base):
            out.mux(packet)
    return notes


def _copied_packets(container: Any, streams: dict[int, Any]) -> Iterator[Any]:
    """Yields the packets of the streams whose numbers are the keys, for the streams that are the values."""
    wanted = [stream for stream in container.streams if stream.index in streams]
    for packet in container.demux(wanted) if wanted else ():
        if packet.dts is not None:
            packet.stream = streams[packet.stream.index]
            yield packet


def _muxer(target: Path) -> str:
    suffix = target.suffix.lower()
    return {".mkv": "matroska", ".m4v": "mp4"}.get(suffix, suffix[1:])


def _describe(stream: Any, source: Any) -> None:
    stale = ("DURATION", "ENCODER", "BPS", "NUMBER_OF_", "_STATISTICS", "VENDOR_ID")
    stream.metadata.update({k: v for k, v in source.metadata.items() if not k.upper().startswith(stale)})
    stream.disposition = source.disposition


def _video_packets(segments: Sequence[Path], stream: Any) -> Iterator[Any]:
    """Yields the packets of all segments with decoding times, which the segments don't state."""
    shown = [packet.pts for packet in _packets(segments)]
    ordered = sorted(shown)
    rank = {time: index for index, time in enumerate(ordered)}
    delay = max(index - rank[time] for index, time in enumerate(shown))  # frames that are decoded before they are shown
    step = min((after - before for before, after in itertools.pairwise(ordered)), default=1)
    decoded = [ordered[0] - step * (delay - index) for index in range(delay)] + ordered
    for packet, time in zip(_packets(segments), decoded, strict=False):
        shift = _shift(packet.time_base)
        packet.pts, packet.dts, packet.stream = packet.pts - shift, time - shift, stream
        yield packet


def _packets(segments: Sequence[Path]) -> Iterator[Any]:
    for segment in segments:
        with pyav().open(str(segment)) as container:
            yield from (packet for packet in container.demux(video=0) if packet.size)
