"""Plots: what a figure shows equals the records and images that it was made of."""

import json
import math
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from srgan_jax.evaluation.plots import plot_metrics, show_images

pytest.importorskip("matplotlib")

RECORDS = [
    {"stage": "pretrain", "step": 1, "seconds": 1.0, "loss": 0.5, "pixel": 0.5, "pixel_unweighted": 0.5},
    {"stage": "pretrain", "step": 2, "seconds": 2.0, "loss": None, "pixel": 0.25, "pixel_unweighted": 0.25},
    {"stage": "pretrain", "step": 2, "seconds": 2.5, "val_psnr_y": 20.0, "val_ssim_y": 0.5},
    {"stage": "gan", "step": 1, "seconds": 1.0, "loss": 0.3, "pixel": 0.3, "pixel_unweighted": 0.3,
     "d_loss": -0.5, "d_loss_unweighted": -0.5, "d_accuracy_real": 0.0, "d_accuracy_fake": 1.0},
    {"stage": "gan", "step": 3, "seconds": 3.0, "loss": 0.2, "pixel": 0.2, "pixel_unweighted": 0.2,
     "d_loss": 0.4, "d_loss_unweighted": 0.4, "d_accuracy_real": 0.0, "d_accuracy_fake": 0.75},
]  # fmt: skip


def _lines(figure):
    """The visible lines of a figure: (stage, label of the axis, name) to x and y data."""
    columns = len({axes.get_subplotspec().colspan.start for axes in figure.axes})
    stages = [axes.get_title() for axes in figure.axes[:columns]]
    return {
        (stages[index % columns], axes.get_ylabel(), line.get_label()): (list(line.get_xdata()), list(line.get_ydata()))
        for index, axes in enumerate(figure.axes)
        if axes.get_visible()
        for line in axes.get_lines()
    }


def test_lines_are_the_records(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    for source in (RECORDS, iter(RECORDS), tmp_path, str(tmp_path / "metrics.jsonl")):
        lines = _lines(plot_metrics(source))
        steps, losses = lines.pop(("pretrain", "generator's loss", "loss"))
        assert steps == [1, 2] and losses[0] == 0.5 and math.isnan(losses[1])
        assert lines == {
            ("pretrain", "generator's loss", "pixel"): ([1, 2], [0.5, 0.25]),
            ("pretrain", "validation PSNR (dB)", "val_psnr_y"): ([2], [20.0]),
            ("gan", "generator's loss", "loss"): ([1, 3], [0.3, 0.2]),
            ("gan", "generator's loss", "pixel"): ([1, 3], [0.3, 0.2]),
            ("gan", "discriminator's loss", "d_loss"): ([1, 3], [-0.5, 0.4]),
            ("gan", "discriminator's accuracy", "d_accuracy_real"): ([1, 3], [0.0, 0.0]),
            ("gan", "discriminator's accuracy", "d_accuracy_fake"): ([1, 3], [1.0, 0.75]),
        }


def test_losses_are_logarithmic_where_they_are_positive():
    figure = plot_metrics(RECORDS)
    scales = {(index % 2, axes.get_ylabel()): axes.get_yscale() for index, axes in enumerate(figure.axes)}
    assert scales[1, "generator's loss"] == "log"
    assert scales[1, "discriminator's loss"] == "linear"  # it has a negative value
    assert scales[1, "discriminator's accuracy"] == scales[0, "validation PSNR (dB)"] == "linear"


def test_keys_choose_the_rows():
    lines = _lines(plot_metrics(RECORDS, keys=("val_ssim_y", "pixel")))
    assert lines == {
        ("pretrain", "val_ssim_y", "val_ssim_y"): ([2], [0.5]),
        ("pretrain", "pixel", "pixel"): ([1, 2], [0.5, 0.25]),
        ("gan", "pixel", "pixel"): ([1, 3], [0.3, 0.2]),
    }


def test_the_line_that_a_kill_cut_off_is_left_out(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text(json.dumps(RECORDS[0]) + '\n{"stage": "pret')
    assert _lines(plot_metrics(file))["pretrain", "generator's loss", "loss"] == ([1], [0.5])
    file.write_text('{"stage": "pret\n' + json.dumps(RECORDS[0]))
    with pytest.raises(ValueError, match="line 1: expected a JSON object"):
        plot_metrics(file)


def test_a_figure_is_saved(tmp_path):
    plot_metrics(RECORDS).savefig(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_wrong_records_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected the folder of a run"):
        plot_metrics(tmp_path)
    with pytest.raises(ValueError, match="no numbers to plot in the records"):
        plot_metrics([])
    with pytest.raises(ValueError, match=r"no 'val_psnr' in the records; .* did you mean 'val_psnr_y'"):
        plot_metrics(RECORDS, keys=["val_psnr"])
    with pytest.raises(ValueError, match="expected keys that the run has"):
        plot_metrics(RECORDS, keys=())
    with pytest.raises(ValueError, match="record 1: expected a mapping with 'stage' and 'step'"):
        plot_metrics([{"loss": 1.0}])


def test_images_are_drawn_as_they_are():
    rng = np.random.default_rng(0)
    given = [
        rng.integers(0, 256, (4, 6, 3), dtype=np.uint8),
        jnp.asarray(rng.uniform(-0.5, 1.5, (8, 8, 3))),
        rng.uniform(size=(5, 3, 1)).astype(np.float32),
    ]
    figure = show_images(given, ["a", "b", "c"])
    drawn = [axes.get_images()[0] for axes in figure.axes]
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c"]
    np.testing.assert_array_equal(drawn[0].get_array(), given[0])
    np.testing.assert_allclose(drawn[1].get_array(), np.clip(given[1], 0, 1))
    np.testing.assert_array_equal(drawn[2].get_array(), given[2][..., 0])
    assert drawn[2].get_clim() == (0, 1)  # gray is not stretched to its own range
    assert {image.get_interpolation() for image in drawn} == {"nearest"}


def test_wrong_images_are_named():
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="one image or more, got none"):
        show_images([])
    with pytest.raises(ValueError, match="a title for each of 2 images, got 1 titles"):
        show_images([image, image], ["a"])
    with pytest.raises(ValueError, match=r"image 1: expected \[H, W, 3\].*, got \(1, 4, 4, 3\)"):
        show_images([image, image[None]])
    with pytest.raises(ValueError, match="image 0: expected uint8, or float in .*, got int64"):
        show_images([image.astype(np.int64)])


def test_without_matplotlib_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # makes its import fail
    with pytest.raises(ValueError, match='plots need matplotlib: pip install "srgan-jax\\[examples\\]"'):
        plot_metrics(RECORDS)
    with pytest.raises(ValueError, match="plots need matplotlib"):
        show_images([np.zeros((4, 4, 3), np.uint8)])


def test_matplotlib_is_imported_when_a_plot_is_drawn():
    import srgan_jax.evaluation

    package = Path(srgan_jax.evaluation.__file__).parents[1]
    assert [path.name for path in package.rglob("*.py") if "import matplotlib" in path.read_text()] == []
    found = [path.name for path in package.rglob("*.py") if "from matplotlib" in path.read_text()]
    assert found == ["plots.py"]
    code = "import sys, srgan_jax.evaluation.plots; print('matplotlib' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
