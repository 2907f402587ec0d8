"""Tests of `srgan-jax upscale`: files, folders, damaged files."""

import errno
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import helpers
import jax
import numpy as np
import pytest
from PIL import Image

import srgan_jax
from srgan_jax import bulk, cli, images, models
from srgan_jax.bulk import chains
from srgan_jax.images import formats
from srgan_jax.runtime import atomic


@pytest.fixture
def folder(tmp_path, photo):
    """A folder of good and bad files, with sub-folders."""
    source = tmp_path / "in"
    (source / "deep" / "er").mkdir(parents=True)
    Image.fromarray(photo[:20, :30]).save(source / "a.png")
    Image.fromarray(photo[:33, :21]).save(source / "deep" / "b.jpg")
    Image.fromarray(photo[:9, :50]).save(source / "deep" / "er" / "c.webp")
    (source / "deep" / "empty.png").touch()
    (source / "text.jpg").write_text("not a picture")
    whole = images.encode_png(photo)
    (source / "cut.png").write_bytes(whole[: len(whole) // 2])
    (source / "notes.txt").write_text("left alone")
    return source


SKIPPED = "skipped, the result exists already (--overwrite writes it again)"


def _names(folder):
    """Returns the files in `folder` and below, without hidden ones (the records of results), relative, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*") if path.is_file())


def _run(capsys, *args):
    status = cli.main(["upscale", *map(str, args)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_folder_of_good_and_bad_files(capsys, folder, weights, tmp_path):
    out = tmp_path / "out"
    status, printed, _ = _run(capsys, folder, "-o", out, "--weights", weights)
    assert status == 1
    assert printed.splitlines()[0] == f"3 upscaled into {out}, 3 failed:"
    assert sorted(line.strip() for line in printed.splitlines()[1:]) == [
        f"{folder / 'cut.png'}: image file is truncated",
        f"{folder / 'deep' / 'empty.png'}: an empty file",
        f"{folder / 'text.jpg'}: not an image in a known format",
    ]
    found = _names(out)
    assert found == ["a.png", "deep/b.jpg", "deep/er/c.webp"]
    for name, size in (("a.png", (60, 40)), ("deep/b.jpg", (42, 66)), ("deep/er/c.webp", (100, 18))):
        with Image.open(out / name) as image:
            assert image.size == size

    # Again: existing results are kept, missing ones are written.
    stamps = {name: (out / name).stat().st_mtime_ns for name in found}
    (out / "a.png").unlink()
    (folder / "cut.png").unlink()
    status, printed, _ = _run(capsys, folder, "-o", out, "--weights", weights)
    assert printed.startswith(f"1 upscaled to {out / 'a.png'}, 2 {SKIPPED}, 2 failed:")
    assert (out / "deep/b.jpg").stat().st_mtime_ns == stamps["deep/b.jpg"]
    status, printed, _ = _run(capsys, folder / "a.png", "-o", out, "--weights", weights, "--overwrite")
    assert (status, printed) == (0, f"1 upscaled to {out / 'a.png'}\n")
    assert (out / "a.png").stat().st_mtime_ns != stamps["a.png"]


def test_what_is_done_is_decided_by_content_and_settings(capsys, folder, weights, tmp_path):
    """A result counts as done if it was made from the same bytes with the same settings, whatever its date."""
    out, source = tmp_path / "out", folder / "a.png"
    args = (source, "-o", out, "--weights", weights)
    assert _run(capsys, *args)[0] == 0
    os.utime(source, (2e9, 2e9))
    os.utime(out / "a.png", (1, 1))
    assert _run(capsys, *args)[1].splitlines() == [
        f"0 upscaled, 1 {SKIPPED}", f"  {source}: skipped, {out / 'a.png'} is its result",
    ]  # fmt: skip
    first = (out / "a.png").read_bytes()
    # Another content, of the same name and size: both results are kept, and the second time both are done.
    Image.fromarray(255 - np.asarray(Image.open(source))).save(source)
    for line in (
        f"1 upscaled to {out / 'a_2.png'}\n  {out / 'a_2.png'}: named so because {out / 'a.png'} was made from an "
        "earlier content of this file\n",
        f"0 upscaled, 1 {SKIPPED}\n  {source}: skipped, {out / 'a_2.png'} is its result\n",
    ):
        assert _run(capsys, *args)[:2] == (0, line)
    # Other settings: here another size.
    status, printed, _ = _run(capsys, *args, "--scale", "3")
    assert status == 0 and f"{out / 'a_3.png'}: named so because {out / 'a.png'} was made from an" in printed
    assert images.image_size(out / "a_3.png") == (60, 90) and (out / "a.png").read_bytes() == first
    # A result that was changed by another program is not ours any more.
    (out / "a_2.png").write_bytes(first)
    status, printed, _ = _run(capsys, *args)
    assert status == 0 and "1 upscaled" in printed and _names(out) == ["a.png", "a_2.png", "a_3.png", "a_4.png"]
    # A file that was named by the user is never renamed.
    status, printed, _ = _run(capsys, source, "-o", out / "a.png", "--weights", weights)
    assert status == 1 and "a.png exists and was made from an earlier content of this file; --overwrite" in printed
    assert _run(capsys, source, "-o", out / "a.png", "--weights", weights, "--overwrite")[0] == 0
    assert (out / "a.png").read_bytes() == (out / "a_4.png").read_bytes() != first


def test_files_of_one_name_from_two_folders_are_told_apart(capsys, weights, tmp_path, photo):
    """Camera cards: each has its IMG_0001.jpg."""
    for card in ("card1", "card2"):
        (tmp_path / card).mkdir()
        Image.fromarray(photo[:20, :30] if card == "card1" else 255 - photo[:20, :30]).save(tmp_path / card / "I.jpg")
    means = {card: np.asarray(Image.open(tmp_path / card / "I.jpg")).mean() for card in ("card1", "card2")}
    options = ("--weights", weights)
    for out, commands in (("one", (("card1",), ("card2",))), ("both", (("card1", "card2"),))):
        for _ in range(2):  # given again, every command finds its results
            for command in commands:
                folders = [tmp_path / name for name in command]
                assert _run(capsys, *folders, "-o", tmp_path / out, *options)[0] == 0
        assert _names(tmp_path / out) == ["I.jpg", "I_card2.jpg"]
        for name, card in (("I.jpg", "card1"), ("I_card2.jpg", "card2")):
            assert abs(np.asarray(Image.open(tmp_path / out / name)).mean() - means[card]) < 2


def test_a_command_with_a_pattern_works_twice(capsys, weights, tmp_path, photo, monkeypatch):
    """The shell expands `*` to the results and the output folder too, the second time; `*.png` is for Windows."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        Image.fromarray(photo[:20, :30]).save(name)
    everything = lambda: sorted(os.listdir("."))  # noqa: E731, with the file of records
    assert _run(capsys, *everything(), "--weights", weights)[0] == 0
    status, printed, error = _run(capsys, *everything(), "--weights", weights)
    assert status == 0 and printed.startswith(f"0 upscaled, 2 {SKIPPED}")
    assert "2 inputs are results of others and are left out: a_x2.png, b_x2.png" in error
    os.remove("b_x2.png")  # as after an interruption
    assert _run(capsys, "*.png", "--weights", weights)[1].startswith(f"1 upscaled to b_x2.png, 1 {SKIPPED}")
    for count in (2, 0):
        status, printed, _ = _run(capsys, *everything(), "-o", "out", "--weights", weights)
        assert status == 0 and printed.startswith(f"{count} upscaled")
    assert _names(tmp_path) == ["a.png", "a_x2.png", "b.png", "b_x2.png", "out/a.png", "out/b.png"]
    assert _run(capsys, "*.webp")[::2] == (2, "weights: photo_x4 (default; --list-weights lists the others)\n"
        "error: no file matches *.webp\n")  # fmt: skip


def test_dry_run_writes_nothing(capsys, folder, weights, tmp_path):
    out = tmp_path / "out"
    status, printed, _ = _run(capsys, folder, "-o", out, "--weights", weights, "--dry-run", "--scale", "3")
    assert f"{folder / 'a.png'} 30 x 20 -> {out / 'a.png'} 90 x 60" in printed
    assert "4 to do, 2 failed" in printed and status == 1  # only the header of cut.png is read
    assert not out.exists()


def test_names_formats_and_collisions(capsys, folder, weights, tmp_path, photo):
    Image.fromarray(photo[:20, :30]).save(folder / "a.bmp")
    out = tmp_path / "out"
    for bad in ("text.jpg", "cut.png", "deep/empty.png"):
        (folder / bad).unlink()
    status, printed, _ = _run(capsys, folder, "-o", out, "--weights", weights, "--format", "png", "--suffix", "_x2")
    assert (status, printed) == (0, f"4 upscaled into {out}\n")
    found = _names(out)
    assert found == ["a_x2_bmp.png", "a_x2_png.png", "deep/b_x2.png", "deep/er/c_x2.png"]


def test_results_among_the_inputs_are_not_upscaled_again(capsys, folder, weights):
    for bad in ("text.jpg", "cut.png", "deep/empty.png"):
        (folder / bad).unlink()
    out = folder / "larger"
    assert _run(capsys, folder, "-o", out, "--weights", weights)[:2] == (0, f"3 upscaled into {out}\n")
    _, printed, _ = _run(capsys, folder, "-o", out, "--weights", weights)
    assert printed.startswith(f"0 upscaled, 3 {SKIPPED}\n")
    (folder.parent / "link").symlink_to(folder)  # the same folders by another name
    for same in (folder.parent / "link", folder):
        _, printed, _ = _run(capsys, same, "-o", folder.parent / "link" / "larger", "--weights", weights)
        assert printed.startswith(f"0 upscaled, 3 {SKIPPED}\n")
    assert _run(capsys, folder, "-o", folder, "--weights", weights, "--suffix", "_x2")[0] == 0
    assert (folder / "deep" / "b_x2.jpg").exists()


def test_results_in_a_folder_that_holds_the_inputs(capsys, weights, tmp_path, photo, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images.write_image("new/a.png", photo[:20, :30])
    (tmp_path / "new" / "notes.txt").write_text("x")
    for printed, what in (("1 upscaled to a.png\n", ""), (f"0 upscaled, 1 {SKIPPED}\n", "skipped")):
        status, out, error = _run(capsys, "new", "-o", ".", "--weights", weights)
        assert status == 0 and out.startswith(printed) and what in out
        assert "files in the folders that are no images: 1" in error


def test_one_name_in_several_formats_and_cases(tmp_path, photo):
    for name in ("A.PNG", "a.jpg", "a.png"):
        images.write_image(tmp_path / "in" / name, photo[:20, :30])
    jobs = bulk.find_jobs([tmp_path / "in"], tmp_path / "out", format="webp")
    assert [job.target.name for job in jobs] == ["A.webp", "a_jpg.webp", "a_png.webp"]
    with pytest.raises(ValueError, match=r"--format png.png: expected one suffix, such as png"):
        bulk.find_jobs([tmp_path / "in"], tmp_path / "out", format="png.png")


def test_results_are_written_beside_the_inputs(capsys, folder, weights):
    status, printed, _ = _run(capsys, folder / "a.png", folder / "deep" / "b.jpg", "--weights", weights)
    assert (status, printed) == (0, "2 upscaled, each in the folder of its original\n")
    assert (folder / "a_x2.png").exists() and (folder / "deep" / "b_x2.jpg").exists()
    status, _, error = _run(capsys, folder, "--weights", weights)
    assert status == 2 and "an input is a folder: expected -o FOLDER for the results" in error


def test_file_names_that_are_not_utf8(weights, folder, tmp_path):
    odd = os.fsencode(folder) + b"/\xff.png"
    with open(odd, "wb") as file:
        file.write((folder / "text.jpg").read_bytes())
    command = [sys.executable, "-m", "srgan_jax.cli", "upscale", odd, "-o", str(tmp_path / "x"), "--weights", weights]
    result = subprocess.run(command, capture_output=True)
    assert result.returncode == 1 and b"\\udcff.png: not an image" in result.stdout, result.stderr


def test_one_file_to_a_given_name(capsys, folder, weights, tmp_path):
    out = tmp_path / "deeper" / "result.jpg"
    assert _run(capsys, folder / "a.png", "-o", out, "--weights", weights, "--long-side", "45")[0] == 0
    with Image.open(out) as image:
        assert image.format == "JPEG" and image.size == (45, 30)


def test_an_interrupted_write_leaves_no_partial_file(tmp_path, monkeypatch):
    """Ctrl-C comes while the file is written."""
    write = Path.write_bytes

    def stop(path, data):
        write(path, data[:50])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", stop)
    with pytest.raises(KeyboardInterrupt):
        images.write_image(tmp_path / "out" / "a.png", np.zeros((9, 9, 3), np.uint8))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_is_named_with_the_file(capsys, monkeypatch, weights, tmp_path, photo):
    images.write_image(tmp_path / "a.png", photo[:16, :16])

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")  # as of a write: without the name of the file

    monkeypatch.setattr(atomic, "_sync", full)
    status, printed, _ = _run(capsys, tmp_path / "a.png", "-o", tmp_path / "b.png", "--weights", weights)
    assert status == 1 and f"a.png: can't write {tmp_path / 'b.png'}: no space left on the disk" in printed
    assert cli.main(["export", str(weights), "--to", "stablehlo", "-o", str(tmp_path / "b.zip")]) == 2
    assert f"error: {tmp_path / 'b.zip'}: No space left on device\n" in capsys.readouterr().err


def test_a_result_that_cannot_be_written_does_not_stop_the_others(capsys, folder, weights, tmp_path):
    out = tmp_path / "out"
    (out / "deep").mkdir(parents=True)
    (out / "deep" / "er").write_text("a file where a folder should be")
    status, printed, _ = _run(capsys, folder, "-o", out, "--weights", weights)
    assert status == 1 and f"2 upscaled into {out}, 4 failed" in printed
    assert f"{folder / 'deep/er/c.webp'}: can't write {out / 'deep/er/c.webp'}" in printed


def test_a_file_without_permission(capsys, folder, weights, tmp_path, monkeypatch):
    """The error is simulated, since root may read everything."""
    opened = io.open

    def refuse(path, *args, **kwargs):
        if str(path) == str(folder / "a.png"):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr("builtins.open", refuse)
    status, printed, _ = _run(capsys, folder, "-o", tmp_path / "out", "--weights", weights)
    assert status == 1 and f"{folder / 'a.png'}: permission denied" in printed
    assert (tmp_path / "out" / "deep" / "b.jpg").exists()


def test_a_folder_without_permission(capsys, folder, weights, tmp_path, monkeypatch):
    """The folder is inside an input folder; a hidden one is skipped without a report. The error is simulated."""
    closed = (folder / "deep" / "closed", folder / ".closed")
    allowed, found = os.access, os.scandir
    refuse = lambda path: PermissionError(13, "Permission denied", str(path))  # noqa: E731

    def scandir(path="."):
        if Path(path) in closed:
            raise refuse(path)
        return found(path)

    monkeypatch.setattr(os, "access", lambda path, *args: Path(path) not in closed and allowed(path, *args))
    monkeypatch.setattr(os, "scandir", scandir)
    for path in closed:
        path.mkdir()
    status, printed, _ = _run(capsys, folder, "-o", tmp_path / "out", "--weights", weights)
    assert status == 1 and printed.startswith(f"3 upscaled into {tmp_path / 'out'}, 4 failed:")
    assert f"  {closed[0]}: permission denied\n" in printed and ".closed" not in printed


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["{in}/a.png", "-o", "{in}"], "the result would replace {in}/a.png; choose another folder, or add --suffix"),
        (["{in}/a.png", "-o", "x.xyz"], "unknown image format '.xyz'; valid: .avif, .bmp"),
        (["{in}", "-o", "x", "--format", "xyz"], "unknown image format '.xyz'"),
        (["{in}", "-o", "x", "--scale", "-1"], "--scale -1.0: expected more than 0"),
        (["{in}", "-o", "x", "--long-side", "0"], "--long-side 0: expected more than 0"),
        (["{in}", "-o", "x", "--scale", "2", "--width", "9"], "and --long-side, got --scale 2.0, --width 9"),
        (["{in}/a.png", "{in}/deep", "-o", "{in}/cut.png"], "-o {in}/cut.png is a file; expected a folder"),
        (["{in}", "-o", "deeper/x.png"], "-o deeper/x.png is the name of an image; expected a folder"),
        (["{in}", "-o", "x", "--quality", "0"], "--quality 0: expected 1 to 100"),
        (
            ["{in}", "-o", "x", "--tile", "1"],
            "--tile 1: expected 16 or more, because this generator needs a halo of 2 px",
        ),
        (["{in}", "-o", "x", "--weights", "nowhere"], "no weights at nowhere"),
        (["{in}/deep/er/none", "-o", "x"], "none: no such file"),
    ],
)
def test_usage_errors(capsys, folder, weights, tmp_path, args, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = [arg.replace("{in}", str(folder)) for arg in args]
    args += [] if "--weights" in args else ["--weights", weights]
    status, printed, error = _run(capsys, *args)
    assert message.replace("{in}", str(folder)) in printed + error
    assert status == (1 if "no such file" in message else 2)
    assert "Traceback" not in error


def test_images_over_the_pixel_limit_fail(capsys, weights, tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / "a.png")  # 134,400 pixels
    status, printed, _ = _run(
        capsys, tmp_path / "a.png", "-o", tmp_path / "x", "--weights", weights, "--max-pixels", 0.1
    )
    assert status == 1 and "a.png: 0.1344 megapixels, more than the limit of 0.1" in printed


def test_large_results_are_announced_and_written_as_tiff(bilinear, tmp_path, photo, monkeypatch):
    monkeypatch.setattr(chains, "LARGE_PIXELS", 100_000)
    monkeypatch.setattr(formats, "MAX_IN_MEMORY_BYTES", 300_000)
    Image.fromarray(photo).save(tmp_path / "a.png")
    jobs, lines = bulk.find_jobs([tmp_path / "a.png"], tmp_path / "out"), []
    summary = bulk.upscale_files(jobs, bilinear, bulk.target_size(2), tile_px=64, report=lines.append)
    assert "896 x 600 pixels, 0.0 GB before compression, about 0 min" in lines[0]
    assert "written as .tif" in lines[1]
    assert summary.done[0].target.name == "a.tif"
    streamed = images.read_image(tmp_path / "out" / "a.tif").frames[0]
    assert np.abs(streamed.astype(int) - np.asarray(srgan_jax.upscale(bilinear, photo))).max() <= 1
    # Again: the .tif counts as done.
    assert len(bulk.upscale_files(jobs, bilinear, bulk.target_size(2), tile_px=64, report=lines.append).skipped) == 1


def test_the_command_passes_on_ensemble_and_blend(capsys, tmp_path, photo):
    Image.fromarray(photo[:20, :20]).save(tmp_path / "a.png")
    ends = [helpers.random_weights(seed, name="compact", blocks=0, width=2, scale=2) for seed in range(2)]
    for index, end in enumerate(ends):
        srgan_jax.save(tmp_path / f"{index}.safetensors", end)
    blend = ["--blend", tmp_path / "0.safetensors", tmp_path / "1.safetensors", "0.25"]
    assert _run(capsys, tmp_path / "a.png", "-o", tmp_path / "b.png", *blend, "--ensemble")[0] == 0
    mixed = srgan_jax.blend(*ends, 0.25)
    expected = np.asarray(srgan_jax.upscale(mixed, photo[:20, :20], self_ensemble=True)).astype(int)
    assert np.abs(np.asarray(Image.open(tmp_path / "b.png")) - expected).max() <= 1
    assert _run(capsys, tmp_path / "a.png", "-o", tmp_path / "c.png", *blend[:-1], "much")[0] == 2


def test_strength_blends_with_the_partner_that_the_file_names(capsys, tmp_path, photo):
    Image.fromarray(photo[:20, :20]).save(tmp_path / "a.png")
    partner, generator = (helpers.random_weights(n, name="compact", blocks=0, width=2, scale=2) for n in range(2))
    (tmp_path / "run").mkdir()
    srgan_jax.save(tmp_path / "run/partner.safetensors", partner)
    srgan_jax.save(tmp_path / "run/gan.safetensors", generator, {"partner": "partner.safetensors"})
    arguments = [tmp_path / "a.png", "-o", tmp_path / "b.png", "--overwrite", "--weights"]
    for strength in (0.0, 0.25, 1.0):
        given = [*arguments, tmp_path / "run/gan.safetensors", "--strength", str(strength)]
        assert _run(capsys, *given)[0] == 0
        expected = np.asarray(srgan_jax.upscale(srgan_jax.blend(partner, generator, strength), photo[:20, :20]))
        assert np.abs(np.asarray(Image.open(tmp_path / "b.png")) - expected.astype(int)).max() <= 1
    for given, message in [
        ([tmp_path / "run/partner.safetensors", "--strength", "0.5"], "names no PSNR partner"),
        ([tmp_path / "run/gan.safetensors", "--strength", "1.5"], "--strength 1.5: expected 0"),
    ]:
        status, _, error = _run(capsys, *arguments, *given)
        assert status == 2 and message in error


def _mutations(photo):
    """Yields 500 damaged files: bytes changed, cut out, doubled, or the end cut off, of five formats."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(photo[40:64, 150:180])
    for suffix in ("png", "jpg", "tif", "webp", "gif"):
        buffer = io.BytesIO()
        image.save(buffer, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()))
        whole = buffer.getvalue()
        for index in range(100):
            data = bytearray(whole)
            kind, place = index % 4, int(rng.integers(len(data)))
            if kind == 0:
                for at in rng.integers(0, len(data), 1 + index // 20):
                    data[at] = rng.integers(256)
            elif kind == 1:
                data = data[:place]
            elif kind == 2:
                del data[place : place + int(rng.integers(1, 40))]
            else:
                data[place:place] = data[place : place + int(rng.integers(1, 40))]
            yield f"{suffix}_{index}.{suffix}", bytes(data)


def test_damaged_files_never_crash(bilinear, photo, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name, data in _mutations(photo):
        (source / name).write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as the command does
        jobs = bulk.find_jobs([source], out)
        summary = bulk.upscale_files(
            jobs, bilinear, bulk.target_size(2), tile_px=64, max_pixels=1_000_000, report=lambda line: None
        )
        assert len(jobs) == 500 == len(summary.done) + len(summary.failed)
        assert len(summary.done) > 50 and len(summary.failed) > 200
        assert all(reason and "\n" not in reason for _, reason in summary.failed)
        written = [out / name for name in _names(out)]
        assert len(written) == len(summary.done)
        for path in written:
            with Image.open(path) as image:
                image.load()


@pytest.mark.slow
def test_a_killed_run_is_completed_by_the_next(weights, photo, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for index in range(40):
        Image.fromarray(photo[: 100 + index, :200]).save(source / f"{index:02d}.png")
    command = [sys.executable, "-m", "srgan_jax.cli", "upscale", str(source), "-o", str(out), "--weights", weights]
    process = subprocess.Popen([*command, "--jobs", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not out.exists() or len(list(out.glob("*.png"))) < 3:
        assert process.poll() is None, process.stderr.read()
    process.kill()
    process.communicate()
    done = list(out.glob("*.png"))
    assert len(done) < 40
    for path in out.glob("[!.]*.png"):
        assert images.read_image(path).shape[1] == 400
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0 and "skipped" in result.stdout, result.stderr
    assert len(list(out.glob("[!.]*.png"))) == 40


# ---------------------------------------------------------------------------------------------- name collisions


def test_fallback_names_never_collide(bilinear, photo, tmp_path, monkeypatch):
    """A result that its format can't hold gets its own name, not that of another result or of an input."""
    monkeypatch.setattr(formats, "MAX_IN_MEMORY_BYTES", 5_000)  # everything but .tif is too large
    for name in ("a.png", "a.webp", "a.tif"):
        images.write_image(tmp_path / name, photo[:20, :30])
    jobs = bulk.find_jobs([tmp_path / name for name in ("a.png", "a.webp", "a.tif")], tmp_path / "out")
    summary = bulk.upscale_files(jobs, bilinear, bulk.target_size(2), tile_px=32, report=lambda line: None)
    assert len({job.target for job in summary.done}) == 3 and not summary.skipped and not summary.failed
    assert _names(tmp_path / "out") == ["a.tif", "a_png.tif", "a_webp.tif"]
    # Again: every one of them counts as done.
    again = bulk.upscale_files(jobs, bilinear, bulk.target_size(2), tile_px=32, report=lambda line: None)
    assert len(again.skipped) == 3
    # Beside the inputs: no result falls back to the name of the input a.tif.
    before = (tmp_path / "a.tif").read_bytes()
    jobs = bulk.find_jobs([tmp_path / "a.webp", tmp_path / "a.tif"], None, suffix="_x2", format="png")
    assert len({job.target for job in jobs}) == 2
    bulk.upscale_files(jobs, bilinear, bulk.target_size(2), tile_px=32, overwrite=True, report=lambda line: None)
    assert (tmp_path / "a.tif").read_bytes() == before


def test_results_never_replace_inputs(tmp_path, photo):
    for name in ("p.bmp", "p.png"):
        images.write_image(tmp_path / name, photo[:9, :9])
    with pytest.raises(ValueError, match="the result would replace .*p.bmp"):
        bulk.find_jobs([tmp_path / "p.bmp", tmp_path / "p.png"], tmp_path, suffix="")


def test_files_not_reached_after_a_device_error_are_listed(bilinear, photo, tmp_path, monkeypatch):
    """After running out of memory every file is listed, those that were not reached with the reason.

    Uses a generator that fails when it is compiled again, which happens after the second image.
    """
    is_full = False

    class Failing(type(bilinear.module())):
        def __call__(self, image, **options):
            if is_full:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
            return super().__call__(image, **options)

    def fill(done, total):
        nonlocal is_full
        if done >= total / 3 and not is_full:
            is_full = True
            jax.clear_caches()

    monkeypatch.setitem(models.GENERATORS, "failing", Failing)
    failing = srgan_jax.make_weights(dict(bilinear.variables), dict(bilinear.architecture) | {"name": "failing"})
    for index in range(6):
        images.write_image(tmp_path / "in" / f"{index}.png", photo[:40, :40])  # 9 tiles each
    jobs = bulk.find_jobs([tmp_path / "in"], tmp_path / "out")
    options = {"tile_px": 16, "report": lambda line: None, "progress": fill}
    summary = bulk.upscale_files(jobs, failing, bulk.target_size(2), **options)
    assert 2 <= len(summary.done) <= 3 and len(summary.done) + len(summary.failed) == 6
    assert all("not upscaled" in why and "memory" in why and "16 x 16" in why for _, why in summary.failed)


def test_heic_in_folders(tmp_path, photo, bilinear):
    pillow_heif = pytest.importorskip("pillow_heif", reason='pip install "srgan-jax[heic]"')
    pillow_heif.from_pillow(Image.fromarray(photo[:40, :40])).save(tmp_path / "a.heic")
    assert [job.target.name for job in bulk.find_jobs([tmp_path], tmp_path / "out")] == ["a.jpg"]


def test_the_pixel_limit_holds_for_every_page(tmp_path):
    pages = images.Picture((np.zeros((1, 1, 3), np.uint8), np.zeros((600, 600, 3), np.uint8)))
    images.write_image(tmp_path / "a.tif", pages)
    with pytest.raises(images.ImageError, match="0.36 .*limit of 0.001"):
        images.read_image(tmp_path / "a.tif", max_pixels=1000)
