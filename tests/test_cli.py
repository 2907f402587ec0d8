import pytest
from PIL import Image

from srgan_jax import cli
from srgan_jax.data import builder


def test_prepare_lists_what_it_skips(tmp_path, photo, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(photo).save(folder / "good.png")
    Image.fromarray(photo[:50]).save(folder / "small.png")
    (folder / "text.jpg").write_text("not a picture")
    assert cli.main(["prepare", str(folder), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == [
        "skipped small.png: 448 x 50 px, smaller than 96 px",
        "skipped text.jpg: not a picture in a known format",
    ]
    assert told[2].startswith("1 pictures prepared, 2 skipped")
    assert cli.main(["prepare", str(folder), "--out", str(tmp_path / "out"), "--min-side", "32"]) == 0
    assert len(builder.open_source(str(tmp_path / "out"))) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "{folder}"], "say where the data set goes: srgan-jax prepare {folder} --out data/NAME"),
        (["prepare", "{folder}/absent", "--out", "out"], "no such folder: {folder}/absent"),
        (["prepare", "no_such_set"], "no data set 'no_such_set'"),
        (["prepare", "{folder}", "--out", "{folder}/out"], "{folder} holds no picture"),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, capsys, arguments, message):
    assert cli.main([argument.format(folder=tmp_path) for argument in arguments]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and message.format(folder=tmp_path) in told and "Traceback" not in told
