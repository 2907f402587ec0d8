"""Weights that give values which aren't finite: refused where a file has them, a failure of the image where SR has."""

import helpers
import jax
import numpy as np
import pytest

from srgan_jax import bulk, images, inference, weights
from srgan_jax.evaluation import pairs, scoring
from srgan_jax.runtime.errors import UserError

FIELDS = {"name": "edsr", "blocks": 1, "width": 4, "scale": 2, "mean": (0.0, 0.0, 0.0)}


@pytest.fixture(scope="module")
def overflowing():
    """Finite weights whose product with a white image overflows float32, and with a black image is 0."""
    made = helpers.random_weights(**FIELDS)

    def replaced(path, leaf):
        return np.zeros_like(leaf) if path[-1].key == "bias" else np.full_like(leaf, 1e25)

    return made.replace(variables=jax.tree_util.tree_map_with_path(replaced, made.variables))


def test_a_tiled_image_fails_and_the_next_one_is_upscaled(overflowing):
    """The white image's tiles, several of them, are consumed: the black image after it has its own result."""
    halo = inference.halo_px(overflowing.architecture)[0]
    tiler = inference.Tiler(overflowing, (2 * halo + 16, 2 * halo + 16))
    white, black = np.full((70, 50, 3), 255, np.uint8), np.zeros((60, 40, 3), np.uint8)
    results = tiler.upscale(inference.from_array(image) for image in (white, black))
    _, strips = next(results)
    with pytest.raises(inference.NonFiniteError, match="edsr gave values that aren't finite"):
        list(strips)
    _, strips = next(results)
    np.testing.assert_array_equal(np.concatenate(list(strips)), np.zeros((120, 80, 3), np.uint8))


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_file_fails_and_the_others_are_written(tmp_path, overflowing, suffix, twice):
    for name, value in (("a", 0), ("b", 255), ("c", 0)):
        images.write_image(tmp_path / f"in/{name}.{suffix}", np.full((20, 30, 3), value, np.uint8))
    jobs = bulk.find_jobs([str(tmp_path / "in")], str(tmp_path / "out"), suffix="", format="")
    generators = [overflowing, helpers.random_weights(**FIELDS)] if twice else [overflowing]
    size_of = bulk.target_size(4 if twice else 2, scale=None, width=None, long_side=None)
    summary = bulk.upscale_files(jobs, generators, size_of)
    assert [job.source.name for job in summary.done] == [f"a.{suffix}", f"c.{suffix}"]
    ((path, reason),) = summary.failed
    assert path.name == f"b.{suffix}" and "aren't finite" in reason
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"a.{suffix}", f"c.{suffix}"]


def test_such_an_image_is_not_scored(overflowing):
    pair = pairs.make_pair("white", np.full((32, 32, 3), 255, np.uint8), 2)
    with pytest.raises(UserError, match="white: the generator gave values that aren't finite"):
        scoring.upscale_all(lambda lr, size: inference.upscale_canvas(overflowing, lr, size), [pair], finite=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_a_file_with_such_a_value_is_refused(tmp_path, value):
    made = helpers.random_weights(**FIELDS)
    file = tmp_path / "made.safetensors"
    variables = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), made.variables)
    variables["params"]["conv_in"]["kernel"][0, 0, 0, 0] = value
    weights.save(file, made.replace(variables=variables), dtype=np.float64)
    with pytest.raises(weights.WeightsError, match="aren't finite in params/conv_in/kernel"):
        weights.load(file)
    with pytest.raises(weights.WeightsError, match="aren't finite"):
        weights.read_header(file)
