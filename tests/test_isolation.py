"""Decoding in processes of their own: a crash, an endless decoder and too much memory cost one file."""

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import failing_decoders
import numpy as np
import pytest
from PIL import Image

from srgan_jax import images
from srgan_jax.images import decode, isolation

CASES = [
    (failing_decoders.crash, "the library that decodes it crashed (SIGSEGV); the file is damaged"),
    (failing_decoders.compute, "not decoded within 1 seconds of processor time; --max-seconds sets this limit"),
    (failing_decoders.allocate, "decoding needs more than 4.29 GB of memory, the limit"),
    (failing_decoders.fail, "LibraryError: a fault of a library"),
]


@pytest.fixture
def folder(tmp_path):
    for index, name in enumerate("abc"):
        Image.fromarray(np.full((8, 9, 3), 50 * index, np.uint8)).save(tmp_path / f"{name}.png")
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="the limits are those of Linux")
@pytest.mark.parametrize(("decoder", "message"), CASES)
def test_the_file_of_a_failing_decoder_fails_alone(folder, monkeypatch, decoder, message):
    monkeypatch.setattr(decode, "_decode_or_repair", decoder)
    monkeypatch.setattr(isolation, "STALLED", 1000)  # on a busy machine a second of the processor takes long
    with images.isolated_decoding():
        for index, name in enumerate("abc"):
            if name == "b":
                with pytest.raises(Exception) as caught:  # of the type that the decoder raises
                    images.decode_image(folder / "b.png", max_seconds=1)
                assert message in str(caught.value)
            else:
                assert (images.decode_image(folder / f"{name}.png").frames[0] == 50 * index).all()


def test_a_decoder_that_waits_is_ended(folder, monkeypatch):
    monkeypatch.setattr(decode, "_decode_or_repair", failing_decoders.wait)
    monkeypatch.setattr(isolation, "load_per_processor", lambda: 1.0)
    start = time.monotonic()
    with images.isolated_decoding(), pytest.raises(images.ImageError, match="not decoded within 1 seconds of waiting"):
        images.decode_image(folder / "b.png", max_seconds=0.25)
    assert time.monotonic() - start < 20


def test_images_are_those_of_a_thread(tmp_path, photo):
    """Pixels, depth, metadata and notes pass from process to process; animations and errors too."""
    Image.fromarray(photo).save(tmp_path / "a.jpg", comment="text", dpi=(72, 72))
    Image.fromarray(photo).save(tmp_path / "a.gif", save_all=True, append_images=[Image.fromarray(photo[::-1])])
    images.write_image(tmp_path / "16bit.png", photo.astype(np.uint16) * 257)
    images.write_image(tmp_path / "a.tif", photo)
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-2])
    (tmp_path / "half.png").write_bytes((tmp_path / "16bit.png").read_bytes()[:900])
    for file in tmp_path.iterdir():

        def read(file=file):
            try:
                return images.image_size(file), images.decode_image(file, stream=True)
            except images.ImageError as error:
                return str(error), None

        here = read()
        with images.isolated_decoding():
            there = read()
        assert here[0] == there[0] and (here[1] is None) == (there[1] is None)
        if here[1] is not None:
            for field in ("icc", "exif", "dpi", "color", "comment", "text", "tiff_tags", "durations_ms", "notes"):
                assert getattr(here[1], field) == getattr(there[1], field), field
            for ours, theirs in zip(here[1].frames, there[1].frames, strict=True):
                np.testing.assert_array_equal(ours, theirs)
                assert ours.dtype == theirs.dtype and theirs.flags.writeable


def test_the_processes_import_no_jax_and_nothing_from_the_current_folder(tmp_path):
    """A module of the name of one of the package's dependencies lies in the current folder."""
    (tmp_path / "PIL.py").write_text("raise SystemExit('imported')")
    done = subprocess.run(
        [sys.executable, "-I", "-X", "importtime", isolation.SCRIPT], cwd=tmp_path, capture_output=True,
        input=pickle.dumps(sys.path),
    )  # fmt: skip
    imported = {line.split(b"|")[-1].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 0 and b"srgan_jax.images.raw" in imported and b"jax" not in imported


@pytest.fixture(params=["gif", "png", "webp"])
def animation(request, tmp_path):
    frames = [Image.fromarray(np.full((8, 9, 3), 80 * index, np.uint8)) for index in range(3)]
    path = tmp_path / f"b.{request.param}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=50, lossless=True)
    return path


def test_frames_of_an_animation_come_from_a_process(animation, monkeypatch):
    with images.isolated_decoding():
        monkeypatch.setattr(isolation, "with_timeout", None)  # which decodes in this process
        picture = images.decode_image(animation, stream=True)
        assert picture.frames[1].mean() == 80  # its process ends before the last frame
        for _ in range(2):
            assert [frame.mean() for frame in picture.frames] == [0, 80, 160]
        assert len(picture.frames) == 3 and picture.shape == next(iter(picture.frames)).shape


@pytest.mark.parametrize("animation", ["png"], indirect=True)
def test_an_animation_that_crashes_at_its_second_decoding_fails_alone(animation, tmp_path, monkeypatch):
    images.write_image(tmp_path / "c.png", np.full((8, 9, 3), 100, np.uint8))
    monkeypatch.setattr(decode, "_decode_or_repair", failing_decoders.crash_later)
    with images.isolated_decoding():
        picture = images.decode_image(animation, stream=True)
        with pytest.raises(images.ImageError, match="the library that decodes it crashed"):
            list(picture.frames)
        assert images.decode_image(tmp_path / "c.png").frames[0].mean() == 100


COPIED = """
import sys
import failing_decoders
from srgan_jax import images
from srgan_jax.images import decode
with images.isolated_decoding():
    sound = decode._decode_or_repair
    for name in "abc":
        decode._decode_or_repair = failing_decoders.crash if name == "b" else sound
        try:
            print(name, images.decode_image(name + ".png").frames[0].mean())
        except images.ImageError as error:
            print(name, error)
    print("jax" in sys.modules)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux is the first process a copy of the command's")
def test_a_process_that_was_copied_before_jax_is_imported_fails_alone(folder):
    path = ":".join([str(Path(failing_decoders.__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", COPIED],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    first, failed, last, jax = done.stdout.splitlines()
    assert (first, last, jax) == ("a 0.0", "c 100.0", "False") and done.stderr == ""
    assert failed.startswith("b the library that decodes it crashed (SIGSEGV)")


def test_the_command_starts_to_decode_before_it_imports_jax():
    done = subprocess.run(
        [sys.executable, "-c", "import sys, srgan_jax.cli; print('jax' in sys.modules)"], capture_output=True, text=True
    )
    assert done.stdout == "False\n"
