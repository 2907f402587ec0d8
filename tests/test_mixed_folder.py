"""A folder of mixed files, upscaled, interrupted by three signals, and given again: the result is that of one run."""

import hashlib
import signal
import subprocess
import sys
import time

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

import srgan_jax
from srgan_jax.cli import main


def _mixed_folder(folder, photo):
    """Writes images of many kinds, damaged and other files, in nested folders with names that are hard to write."""
    parts = iter([np.ascontiguousarray(photo[y : y + 24, 150:182]) for y in range(0, 240, 6)])
    for place in ("St. Petersburg", "a/日本", "b"):
        (folder / place).mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation
    animation = {"save_all": True, "duration": 70}
    for name, options in {
        "photo.jpg": {"exif": exif}, "photo.png": {}, "St. Petersburg/photo.jpg": {}, "a/-dash.bmp": {},
        "b/a b.tif": {}, "a/日本/写真.webp": {"lossless": True}, "b/$HOME.jfif": {"format": "JPEG"},
        "b/%s [1].GIF": animation, "animated.png": animation, "a/moving.webp": animation, "no suffix": {"format": "PNG"}, "a.b.c.ppm": {},
    }.items():  # fmt: skip
        more = {"append_images": [Image.fromarray(next(parts))]} if "save_all" in options else {}
        Image.fromarray(next(parts)).save(folder / name, **options, **more)
    Image.fromarray(next(parts)).convert("P").save(folder / "palette.png")
    Image.fromarray(next(parts)).convert("CMYK").save(folder / "b" / "cmyk.jpg")
    Image.fromarray(next(parts)).convert("1").save(folder / "b" / "fax.tif")
    Image.fromarray(np.dstack([next(parts), photo[:24, :32, 0]])).save(folder / "a" / "alpha.png")
    (folder / "a" / "deep.png").write_bytes(imagecodecs.png_encode(next(parts).astype(np.uint16) * 257))
    tifffile.imwrite(folder / "deep.tif", next(parts).astype(np.uint16) * 257, photometric="rgb")
    (folder / "a" / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(next(parts), lossless=True))
    data = (folder / "St. Petersburg" / "photo.jpg").read_bytes()
    for name, content in {
        "b/short.jpg": data[:-2], "b/half.jpg": data[: len(data) // 2], "empty.png": b"", "text.jpg": b"text",
        "a/notes.txt": b"text",
    }.items():  # fmt: skip
        (folder / name).write_bytes(content)
    (folder / "link").symlink_to(folder / "a")


def _digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".srgan_jax.jsonl"
    }


@pytest.mark.slow
def test_interrupted_runs_end_in_the_result_of_one_run(bilinear, photo, tmp_path, capsys):
    _mixed_folder(tmp_path / "in", photo)
    srgan_jax.save(tmp_path / "w.safetensors", bilinear)
    arguments = ["upscale", str(tmp_path / "in"), "--weights", str(tmp_path / "w.safetensors"), "--tile", "32", "-o"]
    assert main([*arguments, str(tmp_path / "whole")]) == 1  # three files can't be read
    whole, cut = _digests(tmp_path / "whole"), tmp_path / "cut"
    assert len(whole) == 20
    command = [sys.executable, "-m", "srgan_jax.cli", *arguments, str(cut)]
    for number, status, results in ((signal.SIGINT, 130, 1), (signal.SIGTERM, -15, 6), (signal.SIGKILL, -9, 11)):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and (not cut.exists() or len(_digests(cut)) < results):
            time.sleep(0.002)
        process.send_signal(number)
        assert process.wait() in (status, 1)  # 1: it was done first
    assert main([*arguments, str(cut)]) == 1
    assert _digests(cut) == whole
    capsys.readouterr()
    assert main([*arguments, str(cut)]) == 1
    assert f"0 upscaled, {len(whole)} skipped" in capsys.readouterr().out
