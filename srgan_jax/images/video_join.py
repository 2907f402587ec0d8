"""Joining of a video's encoded segments with the other streams of its source.

Inside `isolated_decoding` the source is read in a process of its own.
"""

import contextlib
import heapq
import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from srgan_jax.images import isolation, video_file, video_reader
from srgan_jax.images.video_reader import Limits
from srgan_jax.runtime.atomic import atomic_file
from srgan_jax.runtime.errors import UserError

JOIN_FACTOR = 80  # times the limit of a frame: the processor time for all streams of a film, an hour by default
SOUND_CODEC = "flac"  # for sound that Matroska does not hold as it is


def join(segments: Sequence[Path], source: Path, target: Path, limits: Limits) -> list[str]:
    """Writes a video from encoded segments and the other streams, chapters and metadata of the source, atomically.

    Returns:
      A note for each stream that isn't kept.

    Raises:
      UserError: the format of `target` can't hold the codec.
    """
    with atomic_file(target) as temporary:
        paths = [path.absolute() for path in segments], source.absolute(), temporary.absolute(), target
        return isolation.run(JOIN_FACTOR * limits.max_seconds, limits.max_pixels, _join, *paths)


def _join(segments: Sequence[Path], source: Path, temporary: Path, target: Path) -> list[str]:
    """Writes `temporary`, with as many kinds of streams as the format of `target` holds."""
    av = video_reader.pyav()
    for kinds in (("audio", "subtitle", "attachment", "video"), ("audio",), ()):
        try:
            return _mux(segments, source, temporary, target, kinds)
        except av.FFmpegError as error:
            problem = error
    raise UserError(
        f"{target.suffix} can't hold the video: {problem.strerror or problem}; -o NAME.mkv holds every codec"
    )


def _mux(segments: Sequence[Path], source: Path, temporary: Path, target: Path, kinds: tuple[str, ...]) -> list[str]:
    """Does what `_join` does, with the streams of these kinds."""
    av = video_reader.pyav()
    with contextlib.ExitStack() as stack:
        container = stack.enter_context(video_reader.open_container(source))
        first = stack.enter_context(av.open(str(segments[0])))
        out = stack.enter_context(av.open(str(temporary), "w", format=_muxer(target)))
        original, others, sounds, notes = video_reader.moving(container), {}, [], []
        video = out.add_stream_from_template(first.streams.video[0])
        for tag in video_reader.COLOUR_TAGS:  # VP9 doesn't hold them all
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
            elif copy := _copy_of(stream, out):
                others[stream.index] = copy
                _describe(copy, stream)
                if stream.type == "video" and not stream.disposition & av.stream.Disposition.attached_pic:
                    notes.append(f"video stream {stream.index} is copied as it is")
            elif stream.type == "audio" and stream.codec_context:
                # Matroska: the sound that other formats can't hold is refused before
                encoded = out.add_stream(SOUND_CODEC, rate=stream.rate, layout=stream.layout.name, format="s16")
                sounds.append(_encoded_packets(source, stream.index, encoded))
                _describe(encoded, stream)
                notes.append(f"{_name(stream)} is encoded again, as FLAC, because {target.suffix} can't hold it")
            else:
                notes.append(f"{_name(stream)} isn't kept, because {target.suffix} can't hold it")
        out.metadata.update(container.metadata)
        if chapters := container.chapters():
            out.set_chapters(chapters)
        out.start_encoding()
        packets = _video_packets(segments, video), _copied_packets(container, others), *sounds
        for packet in heapq.merge(*packets, key=lambda packet: packet.dts * packet.time_base):
            out.mux(packet)
    return notes


def check_sound(source: Path, target: Path, limits: Limits) -> None:
    """Raises UserError where the format of `target` can't hold the sound of `source`, and Matroska might."""
    if _muxer(target) != "matroska":
        isolation.run(limits.max_seconds, limits.max_pixels, _check_sound, source.absolute(), target)


def _check_sound(source: Path, target: Path) -> None:
    av = video_reader.pyav()
    with (
        video_reader.open_container(source) as container,
        av.open(io.BytesIO(), "w", format=_muxer(target)) as out,
    ):
        for stream in container.streams.audio:
            if _copy_of(stream, out) is not None:
                continue
            if stream.codec_context is None:
                raise UserError(f"{source}: FFmpeg doesn't know the codec of its {stream.type} stream {stream.index}")
            raise UserError(
                f"{source}: {target.suffix} can't hold its {_name(stream)}; -o NAME.mkv, or --format mkv, holds "
                "most codecs"
            )


def _copy_of(stream: Any, out: Any) -> Any:
    """Returns a new stream of a container for the packets of another; None if the format can't hold its codec."""
    try:
        return out.add_stream_from_template(stream)
    except ValueError:
        return None


def _name(stream: Any) -> str:
    codec = stream.codec_context.name if stream.codec_context else "unknown codec"
    return f"{stream.type} stream {stream.index} ({codec})"


def _copied_packets(container: Any, streams: dict[int, Any]) -> Iterator[Any]:
    """Yields the packets of the streams whose numbers are the keys, for the streams that are the values."""
    wanted = [stream for stream in container.streams if stream.index in streams]
    for packet in container.demux(wanted) if wanted else ():
        if packet.dts is None and packet.size and packet.stream.type == "video":  # a cover
            packet.pts = packet.dts = 0
        if packet.dts is not None:
            packet.stream = streams[packet.stream.index]
            yield packet


def _encoded_packets(source: Path, index: int, encoded: Any) -> Iterator[Any]:
    """Yields the packets of a sound stream of a video, decoded and encoded again for the stream `encoded`."""
    av = video_reader.pyav()
    resampler = av.AudioResampler(format="s16", layout=encoded.layout, rate=encoded.rate)
    with video_reader.open_container(source) as container:
        stream, end = container.streams[index], 0
        for frame in itertools.chain(container.decode(stream), [None]):
            if frame is not None:  # the last one may have no time
                frame.pts = end if frame.pts is None else frame.pts
                end = frame.pts + round(frame.samples / frame.sample_rate / frame.time_base)
            for converted in resampler.resample(frame):
                yield from encoded.encode(converted)
        yield from (packet for packet in encoded.encode(None) if packet.size)


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
        shift = video_file.shift(packet.time_base)
        packet.pts, packet.dts, packet.stream = packet.pts - shift, time - shift, stream
        yield packet


def _packets(segments: Sequence[Path]) -> Iterator[Any]:
    for segment in segments:
        with video_reader.pyav().open(str(segment)) as container:
            yield from (packet for packet in container.demux(video=0) if packet.size)
