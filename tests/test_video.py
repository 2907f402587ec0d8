"""Tests of videos: times, sound, subtitles, chapters, colours; a run that was interrupted resumes."""

import errno
import shutil
import sys
from fractions import Fraction
from pathlib import Path

import failing_decoders
import numpy as np
import pytest

import srgan_jax
from srgan_jax import bulk, cli, images, weights
from srgan_jax.bulk import video
from srgan_jax.images import isolation, video_reader
from srgan_jax.runtime.errors import UserError

av = pytest.importorskip("av", reason='pip install "srgan-jax[video]"')
TIMES = [0, 40, 80, 200, 210, 220, 400, 440, 480, 500]  # ms: a variable rate
SOUND = {".webm": "libopus", ".wmv": "wmav2"}  # codecs; AAC in other containers


def _write(path, photo, *, times=TIMES, sound=True, codec="libx264", pixels="yuv420p", **options):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"crf": "4", **options})
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        context = stream.codec_context
        context.time_base = Fraction(1, 1000)
        context.color_primaries = context.color_trc = context.colorspace = 1  # BT.709
        context.color_range = 1
        audio = container.add_stream(SOUND.get(path.suffix, "aac"), rate=48000) if sound else None
        if audio:
            audio.bit_rate, audio.layout = 128_000, "mono"
        container.metadata["title"] = "Film"
        container.set_chapters(
            [{"id": n, "start": 250 * n, "end": 250 * (n + 1), "time_base": Fraction(1, 1000), "metadata": {"title": t}}
             for n, t in enumerate(("One", "Two"))]
        )  # fmt: skip
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.roll(photo[:48, :64], 2 * index, 1)))
            frame = frame.reformat(format=pixels, dst_colorspace=1, dst_color_range=1)
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio:
            wave = (8000 * np.sin(np.arange(24_000) / 20)).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = 48_000, 0
            container.mux(audio.encode(frame))
            container.mux(audio.encode(None))


def _contents(path):
    """Returns the frames, their times in seconds, the packets of sound, and what is told about the video."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        arrays, times = [frame.to_ndarray(format="rgb24") for frame in frames], [frame.time for frame in frames]
        context = container.streams.video[0].codec_context
        told = {
            "colours": [int(getattr(context, tag)) for tag in video_reader.COLOUR_TAGS],
            "chapters": [(float(c["start"] * c["time_base"]), c["metadata"]["title"]) for c in container.chapters()],
            "title": container.metadata.get("title"),
            "pixels": context.pix_fmt,
        }
    with av.open(str(path)) as container:
        sound = (
            [(p.pts * p.time_base, bytes(p)) for p in container.demux(audio=0) if p.size]
            if container.streams.audio
            else []
        )
    return arrays, times, sound, told


def _upscale(bilinear, source, target, **options):
    lines = []
    size_of = bulk.target_size(2)
    bulk.upscale_video(source, target, [bilinear], size_of, tile_px=32, report=lines.append, **options)
    return lines


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "webm"])
def test_times_sound_chapters_and_colours_are_kept(suffix, bilinear, photo, tmp_path, monkeypatch):
    monkeypatch.setattr(video, "SEGMENT_FRAMES", 4)  # 10 frames: three segments
    source, target = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    _write(source, photo, codec="libvpx-vp9" if suffix == "webm" else "libx264")
    lines = _upscale(bilinear, source, target, crf=4)
    assert "frames are upscaled one by one" in lines[0] and "may flicker" in lines[0] and len(lines) == 1
    (before, times, sound, told), (after, new_times, new_sound, new_told) = map(_contents, (source, target))
    assert len(after) == len(before) == 10 and new_told == told
    assert np.allclose(new_times, times, atol=1e-9) and np.allclose(np.diff(times), np.diff(TIMES) / 1000)
    assert len(sound) > 10 and new_sound == sound
    for old, new in zip(before, after, strict=True):
        assert new.shape == (96, 128, 3)
        assert np.abs(new.reshape(48, 2, 64, 2, 3).mean((1, 3)) - old).mean() < 6
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((source.name, target.name))


def test_an_interrupted_run_resumes_with_the_unfinished_segment(bilinear, photo, tmp_path, monkeypatch):
    monkeypatch.setattr(video, "SEGMENT_FRAMES", 3)
    source, target = tmp_path / "a.mkv", tmp_path / "b.mkv"
    _write(source, photo)
    _upscale(bilinear, source, tmp_path / "whole.mkv")

    def stop(done, total):
        if done >= 8 * 48 * 64:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _upscale(bilinear, source, target, progress=stop)
    assert not target.exists()
    assert "resuming after 6 frames" in _upscale(bilinear, source, target)[1]
    for resumed, whole in zip(_contents(target)[:2], _contents(tmp_path / "whole.mkv")[:2], strict=True):
        np.testing.assert_array_equal(resumed, whole)
    with pytest.raises(KeyboardInterrupt):
        _upscale(bilinear, source, tmp_path / "c.mkv", progress=stop)
    assert len(_upscale(bilinear, source, tmp_path / "c.mkv", crf=30)) == 1  # other settings: from the beginning


def test_more_than_8_bits_stay(bilinear, photo, tmp_path):
    _write(tmp_path / "a.mkv", photo, pixels="yuv420p10le", sound=False)
    _upscale(bilinear, tmp_path / "a.mkv", tmp_path / "b.mkv")
    assert _contents(tmp_path / "b.mkv")[3]["pixels"] == "yuv420p10le"


def test_what_is_no_video_is_refused(bilinear, photo, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(UserError, match="a.mp4: "):
        _upscale(bilinear, tmp_path / "a.mp4", tmp_path / "b.mp4")
    _write(tmp_path / "c.mkv", photo, sound=False)
    with pytest.raises(UserError, match="--codec aac: expected a video encoder of FFmpeg"):
        _upscale(bilinear, tmp_path / "c.mkv", tmp_path / "b.mkv", codec="aac")
    with pytest.raises(UserError, match="0.003072 megapixels a frame, more than 0.001"):
        _upscale(bilinear, tmp_path / "c.mkv", tmp_path / "b.mkv", max_pixels=1000)
    assert bulk.video_target(tmp_path / "c.avi", None, "_x4") == tmp_path / "c_x4.mkv"


def test_streams_that_a_format_cannot_hold(bilinear, photo, tmp_path):
    """MP4 holds no SRT; WebM no AAC, which is found before frames are upscaled."""
    _write(tmp_path / "a.mkv", photo)
    (tmp_path / "words.srt").write_text("1\n00:00:00,000 --> 00:00:00,500\nwords\n")
    with (
        av.open(str(tmp_path / "a.mkv")) as film,
        av.open(str(tmp_path / "words.srt")) as words,
        av.open(str(tmp_path / "b.mkv"), "w") as out,
    ):
        pairs = [(source, out.add_stream_from_template(source.streams[0])) for source in (film, words)]
        for source, copy in pairs:
            for packet in source.demux(source.streams[0]):
                if packet.size:
                    packet.stream = copy
                    out.mux(packet)
    lines = _upscale(bilinear, tmp_path / "b.mkv", tmp_path / "c.mp4")
    assert lines[1:] == [f"{tmp_path}/b.mkv: subtitle stream 1 (srt) isn't kept, because .mp4 can't hold it"]
    with pytest.raises(UserError, match=r"a.mkv: .webm can't hold its audio stream 1 \(aac\); -o NAME.mkv, or"):
        _upscale(bilinear, tmp_path / "a.mkv", tmp_path / "d.webm")


def test_sound_that_matroska_does_not_hold_is_encoded_again(bilinear, photo, tmp_path):
    _write(tmp_path / "a.wmv", photo)
    lines = _upscale(bilinear, tmp_path / "a.wmv", tmp_path / "b.mkv")
    assert f"{tmp_path}/a.wmv: audio stream 1 (wmav2) is encoded again, as FLAC, because .mkv can't hold it" in lines
    sounds = []
    for name in ("a.wmv", "b.mkv"):
        with av.open(str(tmp_path / name)) as container:
            frames = list(container.decode(audio=0))
            samples = np.concatenate([frame.to_ndarray().ravel() for frame in frames])
            sounds.append((float(frames[0].pts * frames[0].time_base), samples))
    (start, before), (start_after, after) = sounds
    assert abs(start - start_after) <= 0.001 and after.dtype == np.int16
    np.testing.assert_allclose(after / 2.0**15, before, atol=2**-15)  # 16 bits


def test_a_name_at_the_limit_of_file_systems(bilinear, photo, tmp_path):
    _write(tmp_path / "a.mkv", photo, times=TIMES[:2], sound=False)
    long = tmp_path / f"{'n' * 251}.mkv"
    _upscale(bilinear, tmp_path / "a.mkv", long)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a.mkv", long]


def test_what_the_encoder_cannot_keep_is_named(bilinear, photo, tmp_path):
    _write(tmp_path / "a.mov", photo, codec="prores_ks", pixels="yuva444p10le", sound=False)
    lines = _upscale(bilinear, tmp_path / "a.mov", tmp_path / "b.mov")
    assert f"{tmp_path}/a.mov: transparency is not kept" in lines


def test_names_of_videos(bilinear, photo, tmp_path, monkeypatch, capsys):
    """What is done is decided by content and settings; equal names are told apart; patterns and a second run work."""
    monkeypatch.chdir(tmp_path)
    srgan_jax.save("w.safetensors", bilinear)
    for folder, times in (("p", [0, 40]), ("q", [0, 80])):
        (tmp_path / folder).mkdir()
        _write(tmp_path / folder / "v.mp4", photo, times=times, sound=False)

    def run(*args):
        status = cli.main(["upscale", *args, "--weights", "w.safetensors"])
        return status, capsys.readouterr().out.splitlines()

    both, after = ("p/v.mp4", "q/v.mp4", "-o", "o"), "(--overwrite writes it again)"
    planned = ["p/v.mp4 64 x 48 -> o/v.mp4 128 x 96", "q/v.mp4 64 x 48 -> o/v_q.mp4 128 x 96"]
    assert run(*both, "--dry-run") == (0, planned)
    assert run(*both) == (0, ["1 video upscaled to o/v.mp4", "1 video upscaled to o/v_q.mp4"])
    skipped = [f"p/v.mp4: skipped, o/v.mp4 is its result {after}", f"q/v.mp4: skipped, o/v_q.mp4 is its result {after}"]
    assert run("q/v.mp4", "-o", "o") == (0, skipped[1:]) and run(*both) == (0, skipped)
    assert run("p/*.mp4")[1] == ["1 video upscaled to p/v_x2.mp4"]
    assert run("p/*.mp4")[1] == [f"p/v.mp4: skipped, p/v_x2.mp4 is its result {after}"]
    named = [
        "p/v_x2_2.mp4: named so because p/v_x2.mp4 was made with other settings",
        "1 video upscaled to p/v_x2_2.mp4",
    ]
    assert run("p/v.mp4", "--crf", "30") == (0, named)
    assert run("p/v.mp4", "-o", "o/v_q.mp4")[0] == 1  # the result of another
    assert run("p/v.mp4", "--format", "mkv", "-o", "k/")[1] == ["1 video upscaled to k/v.mkv"]
    assert run("p/v.mp4", "-o", "x.gif")[0] == 2 and not Path("x.gif").exists()
    assert run("p/v.mp4", "--scale", "1e6", "-o", "huge.mp4")[0] == 1


@pytest.mark.parametrize(
    "text", ["ffconcat version 1.0\nfile other.mkv\n", "v=0\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n"]
)
def test_a_playlist_reads_no_other_file(bilinear, photo, tmp_path, text):
    _write(tmp_path / "other.mkv", photo, times=TIMES[:2], sound=False)
    (tmp_path / "a.mp4").write_text(text)
    with pytest.raises(UserError, match="a.mp4: expected a video in one of the formats mov"):
        _upscale(bilinear, tmp_path / "a.mp4", tmp_path / "b.mp4")


def test_a_video_that_the_encoder_refuses_fails_before_its_frames_are_upscaled(bilinear, tmp_path):
    with av.open(str(tmp_path / "a.mov"), "w") as container:  # x264 encodes sides of up to 16,384 pixels
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 10_000, 2, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((2, 10_000, 3), np.uint8))))
        container.mux(stream.encode(None))
    with pytest.raises(UserError, match="a.mov: libx264 can't encode 20000 x 4 pixels; choose a smaller --scale"):
        _upscale(bilinear, tmp_path / "a.mov", tmp_path / "b.mp4")


def test_a_video_whose_size_changes_is_refused(bilinear, photo, tmp_path):
    parts = [tmp_path / "a.ts", tmp_path / "b.ts"]
    for path, height in zip(parts, (48, 32), strict=True):
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg2video", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, height, "yuv420p"
            for _ in range(3):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(photo[:height, :64]))
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    parts[0].write_bytes(parts[0].read_bytes() + parts[1].read_bytes())
    with pytest.raises(UserError, match="has 64 x 32 pixels, the first 64 x 48; cut the video"):
        _upscale(bilinear, parts[0], tmp_path / "c.mp4")


def test_whatever_a_video_does_the_next_one_is_upscaled(bilinear, tmp_path, photo, monkeypatch, capsys):
    _write(tmp_path / "a.mkv", photo, times=TIMES[:2], sound=False)
    shutil.copy(tmp_path / "a.mkv", tmp_path / "b.mkv")
    plan = video._plan

    def fail(source, *rest):
        if source.name == "a.mkv":
            raise RuntimeError("unexpected")
        return plan(source, *rest)

    monkeypatch.setattr(video, "_plan", fail)
    weights.save(file := tmp_path / "w.safetensors", bilinear)
    arguments = [tmp_path / "a.mkv", tmp_path / "b.mkv", "-o", tmp_path / "out", "--weights", file]
    status = cli.main(["upscale", *map(str, arguments)])
    printed = capsys.readouterr().out
    assert status == 1 and "a.mkv: RuntimeError: unexpected" in printed and "1 video upscaled" in printed
    assert (tmp_path / "out" / "b.mkv").is_file()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limits are those of Linux")
@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (failing_decoders.crash_in_video, "the library that decodes it crashed (SIGSEGV)"),
        (failing_decoders.compute_in_video, "not decoded within 1 seconds of processor time; --max-seconds sets"),
    ],
)
def test_a_video_whose_decoder_fails_costs_only_itself(tmp_path, photo, monkeypatch, capsys, decoder, message):
    """Videos are decoded in a process; the limit of time is that of a frame, not of the video."""
    monkeypatch.setattr(isolation, "STALLED", 1000)  # on a busy machine a second of the processor takes long
    for name in ("bad", "good"):
        _write(tmp_path / f"{name}.mp4", photo, times=TIMES[:4])
    monkeypatch.setattr(video_reader, "_decode", decoder)
    inputs = [str(tmp_path / f"{name}.mp4") for name in ("bad", "good")]
    assert cli.main(["upscale", *inputs, "-o", f"{tmp_path}/out/", "--scale", "2", "--max-seconds", "1"]) == 1
    said = capsys.readouterr().out
    assert f"1 video failed: {inputs[0]}: {message}" in said
    assert _contents(tmp_path / "out" / "good.mp4")[1] == [time / 1000 for time in TIMES[:4]]
    assert not (tmp_path / "out" / "bad.mp4").exists()


def test_sound_of_an_unknown_codec(bilinear, photo, tmp_path):
    """It is left out of Matroska, and named; for other formats the video is refused before it is upscaled."""
    _write(tmp_path / "a.avi", photo, codec="mpeg4")
    content = (tmp_path / "a.avi").read_bytes()
    start = content.index(b"strf", content.index(b"auds")) + 8  # WAVEFORMATEX: its first field is the codec
    (tmp_path / "a.avi").write_bytes(content[:start] + b"\xcd\xab" + content[start + 2 :])
    lines = _upscale(bilinear, tmp_path / "a.avi", tmp_path / "a.mkv")
    assert any("audio stream 1 (unknown codec) isn't kept" in line for line in lines)
    assert len(_contents(tmp_path / "a.mkv")[0]) == len(TIMES) and not _contents(tmp_path / "a.mkv")[2]
    with pytest.raises(UserError, match="FFmpeg doesn't know the codec of its audio stream 1"):
        _upscale(bilinear, tmp_path / "a.avi", tmp_path / "a.mp4")


def test_too_little_memory_is_named(tmp_path, monkeypatch):
    """As FFmpeg reports it in a process whose memory is limited; it may also say "invalid data"."""

    def fail(path):
        raise av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(video_reader, "open_container", fail)
    with pytest.raises(UserError, match="decoding needs more memory than the limit"):
        video_reader.read_info(tmp_path / "a.mp4", video_reader.Limits(10**6, 60.0))


def test_frames_are_the_same_from_a_process(tmp_path, photo, monkeypatch):
    _write(tmp_path / "a.mp4", photo)
    limits = video_reader.Limits(10**6, 60.0)
    info = video_reader.read_info(tmp_path / "a.mp4", limits)
    frames = list(video_reader.read_frames(tmp_path / "a.mp4", info, limits, start=3))
    with images.isolated_decoding():
        assert video_reader.read_info(tmp_path / "a.mp4", limits) == info
        isolated = list(video_reader.read_frames(tmp_path / "a.mp4", info, limits, start=3))
        some = video_reader.read_frames(tmp_path / "a.mp4", info, limits)
        assert next(some).time == 0
        some.close()  # its process is ended; the next file gets another one
        monkeypatch.chdir(tmp_path)  # the processes stay in the folder in which they started
        assert video_reader.read_info(Path("a.mp4"), limits) == info
        with pytest.raises(UserError, match="no such file|No such file"):
            video_reader.read_info(tmp_path / "absent.mp4", limits)
        with pytest.raises(UserError, match="megapixels a frame"):
            video_reader.read_info(tmp_path / "a.mp4", video_reader.Limits(100, 60.0))
    assert len(isolated) == 7 and [frame.time for frame in isolated] == [frame.time for frame in frames]
    for first, second in zip(frames, isolated, strict=True):
        np.testing.assert_array_equal(first.samples, second.samples)
