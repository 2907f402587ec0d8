"""Upscaling of videos frame by frame, in segments, so that an interrupted run resumes."""

import collections
import hashlib
import itertools
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from srgan_jax import images
from srgan_jax.bulk.chains import make_chain, repeat_generators
from srgan_jax.bulk.options import weights_digest
from srgan_jax.bulk.planning import check_result
from srgan_jax.bulk.sizes import SizeOf, rows_of_result
from srgan_jax.images import video_file, video_join, video_reader
from srgan_jax.images.video_file import Encoding
from srgan_jax.images.video_reader import Limits, TimedFrame, VideoInfo
from srgan_jax.inference import Chain
from srgan_jax.runtime.errors import UserError
from srgan_jax.weights import Weights

SEGMENT_FRAMES, SEGMENT_SECONDS, SMALLEST_SEGMENT = 120, 300.0, 12
LONG_NAME = 240  # bytes
FLICKER = "frames are upscaled one by one, without looking at their neighbours: fine textures may flicker"


def video_target(source: Path, out: str | None, suffix: str, format: str = "") -> Path:
    """Returns the path of the result of a video: `out` is a folder, a file with a video's suffix, or None (beside it).

    `format` is a suffix of video; others are for images and ignored. Formats of video that aren't written become
    Matroska (.mkv).
    """
    if names_video(out):
        if Path(out or "").suffix.lower() not in video_file.WRITTEN:
            raise UserError(f"-o {out}: expected a video's name with one of {', '.join(video_file.WRITTEN)}")
        return Path(out or "")
    wanted = f".{format.lower().removeprefix('.')}"
    given = wanted if wanted in video_reader.SUFFIXES else source.suffix.lower()
    ending = given if given in video_file.WRITTEN else ".mkv"
    return (Path(out) if out else source.parent) / f"{source.stem}{suffix}{ending}"


def names_video(out: str | None) -> bool:
    """Returns whether the value of `-o` is the name of a video, not of a folder.

    Raises:
      UserError: it is the name of an image.
    """
    if not out or Path(out).is_dir() or out.endswith(("/", os.sep)):
        return False
    if Path(out).suffix.lower() in images.SUFFIXES:
        written = ", ".join(video_file.WRITTEN)
        raise UserError(f"-o {out} is the name of an image; expected a folder, or a video's name with one of {written}")
    return Path(out).suffix.lower() in video_reader.SUFFIXES


def upscale_video(
    source: Path,
    target: Path,
    generators: Sequence[Weights],
    size_of: SizeOf,
    *,
    codec: str | None = None,
    crf: int = 18,
    self_ensemble: bool = False,
    tile_px: int | None = None,
    max_pixels: int = images.MAX_PIXELS,
    max_seconds: float = images.MAX_SECONDS,
    report: Callable[[str], None] = print,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Upscales a video: frames keep their times; sound, subtitles, chapters and colour tags are copied.

    The encoded frames are kept in segments, in a hidden folder beside the target, until the video is complete. The next
    call with the same arguments continues after the last segment.

    Args:
      source: the video.
      target: the file to write; an existing one is replaced.
      generators: applied one after another.
      size_of: from `target_size`; an odd last row or column of the result is left out.
      codec: FFmpeg's name of the encoder; None is libx264, or libvpx-vp9 for WebM.
      crf: quality of the encoder, smaller is better.
      self_ensemble: average over flips and rotations.
      tile_px: side of the tiles; None chooses it by the free memory.
      max_pixels: videos with more pixels in a frame are refused.
      max_seconds: longest time for decoding a frame, inside `images.isolated_decoding`.
      report: gets lines for the user.
      progress: gets the number of LR pixels done and their total.

    Raises:
      UserError: PyAV isn't installed, the file isn't a video, or the codec is unknown.
    """
    limits = Limits(max_pixels, max_seconds)
    info, encoding = _plan(source, target, size_of, codec, crf, limits)
    area = math.prod(info.size)
    report(f"{source}: {info.frames} frames, {_size(info.size)} -> {_size(encoding.size)} pixels; {FLICKER}")
    for note in video_file.losses(info, encoding.codec):
        report(f"{source}: {note}")
    if info.interlaced:
        report(f"{source}: is interlaced; both fields are upscaled as one frame")
    folder = _segments_folder(target)
    done = _resume(folder, _digest(source, generators, (encoding, self_ensemble)))
    if done:
        report(f"{source}: resuming after {done} frames")
    passes = repeat_generators(generators, size_of.passes(*info.size))
    chain = make_chain(passes, [info.size], tile_px=tile_px, self_ensemble=self_ensemble, report=report)
    frames = _upscaled(video_reader.read_frames(source, info, limits, done), chain, size_of)
    _write_segments(
        frames, folder, done, info, encoding, lambda count: progress(count * area, max(count, info.frames) * area)
    )
    if not (segments := _segments(folder)):
        raise UserError(f"{source}: no frame of this video can be decoded")
    for note in video_join.join(segments, source, target, limits):
        report(f"{source}: {note}")
    shutil.rmtree(folder)


def _plan(
    source: Path, target: Path, size_of: SizeOf, codec: str | None, crf: int, limits: Limits
) -> tuple[VideoInfo, Encoding]:
    """Returns what is known of the video, and how its result is encoded; raises what `upscale_video` raises."""
    codec = codec or video_file.DEFAULT_CODECS.get(target.suffix.lower(), video_file.H264)
    video_file.check_codec(codec)
    info = video_reader.read_info(source, limits)
    check_result(size_of, info.size, limits.max_pixels)
    video_join.check_sound(source, target, limits)
    height, width = (side // 2 * 2 for side in size_of(*info.size))
    if not (height and width):
        raise UserError(f"{source}: expected a result of at least 2 x 2 pixels, got {_size(size_of(*info.size))}")
    encoding = Encoding(codec, crf, (height, width))
    try:
        video_file.check_size(encoding, info)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    return info, encoding


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"


def _upscaled(frames: Iterable[TimedFrame], chain: Chain, size_of: SizeOf) -> Iterator[TimedFrame]:
    times: collections.deque[int] = collections.deque()

    def samples() -> Iterator[np.ndarray]:
        for frame in frames:
            times.append(frame.time)
            yield frame.samples

    for before, strips in chain.upscale(samples()):
        shape = (chain.scale * before.size[0], chain.scale * before.size[1], 3)
        whole = np.concatenate(list(rows_of_result(strips, shape, before.size, size_of)))
        height, width = (side // 2 * 2 for side in whole.shape[:2])
        yield TimedFrame(np.ascontiguousarray(whole[:height, :width]), times.popleft())


def _write_segments(
    frames: Iterator[TimedFrame],
    folder: Path,
    done: int,
    info: VideoInfo,
    encoding: Encoding,
    progress: Callable[[int], None],
) -> None:
    """Writes the segments; `progress` gets the number of frames done."""
    for first in frames:
        segment = _segment(itertools.chain([first], frames), progress, done)
        count = video_file.write_segment(folder / "next", segment, info, encoding)
        (folder / "next").rename(folder / f"{done:09}_{count}.nut")
        done += count


def _segment(frames: Iterator[TimedFrame], progress: Callable[[int], None], done: int) -> Iterator[TimedFrame]:
    """Yields the frames of one segment: up to SEGMENT_FRAMES, or those of SEGMENT_SECONDS."""
    start = time.monotonic()
    for count, frame in enumerate(frames, 1):
        yield frame
        progress(done + count)
        late = time.monotonic() - start > SEGMENT_SECONDS and count >= SMALLEST_SEGMENT
        if count == SEGMENT_FRAMES or late:
            return


def _segments_folder(target: Path) -> Path:
    """Returns the hidden folder of the segments of a result; a name near the limit of 255 bytes is replaced."""
    name = os.fsencode(target.name)
    return target.with_name(f".segments-{target.name if len(name) < LONG_NAME else hashlib.sha256(name).hexdigest()}")


def _segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.nut"))


def _resume(folder: Path, digest: str) -> int:
    """Returns the number of frames in the segments of an earlier run with this digest; deletes those of another run."""
    record = folder / "digest"
    if not (record.is_file() and record.read_text() == digest):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        record.write_text(digest)
    return sum(int(path.stem.split("_")[1]) for path in _segments(folder))


def _digest(source: Path, generators: Sequence[Weights], options: tuple) -> str:
    """Returns a digest of all that decides the frames of the result."""
    status = source.stat()
    return weights_digest(generators, repr((str(source.resolve()), status.st_size, status.st_mtime_ns, options)))
