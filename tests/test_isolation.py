"""Decoding in processes of their own: a crash, an endless decoder and too much memory cost one file."""

import pickle
import subprocess
import sys
import time

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
