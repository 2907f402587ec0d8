"""`upscale` outside `jit`: the result of the image alone, with few compilations."""

import helpers
import jax
import numpy as np
import pytest

import srgan_jax
from srgan_jax.inference.upscale import canvas_side

SMALL = {
    "srresnet": {"blocks": 1, "width": 4}, "rrdb": {"blocks": 1, "width": 4, "growth": 4, "unshuffle": 2, "scale": 2},
    "swinir": {"depths": (2,), "heads": (1,), "width": 4, "window": 4}, "restoration": {"blocks": 1, "width": 4},
    "realplksr": {"blocks": 1, "width": 8, "kernel_size": 5},
}  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("options", [{}, {"self_ensemble": True}, {"clip": False}], ids=str)
def test_the_result_is_that_of_the_image_alone(name, options):
    """Under `jit` nothing is padded: both ways give the same pixels, up to rounding."""
    made = helpers.random_weights(name=name, **SMALL[name])
    images = np.random.default_rng(0).random((2, 20, 37, 3), np.float32)
    eager = srgan_jax.upscale(made, images, **options)
    traced = jax.jit(lambda weights, image: srgan_jax.upscale(weights, image, **options))(made, images)
    assert eager.shape == traced.shape and eager.dtype == traced.dtype
    np.testing.assert_allclose(eager, traced, atol=2e-5)
    np.testing.assert_array_equal(eager[0].shape, srgan_jax.upscale(made, images[0], **options).shape)


def test_sizes_of_one_canvas_share_a_compilation():
    made = helpers.random_weights(name="edsr", blocks=1, width=4, scale=2)
    other = helpers.random_weights(seed=1, name="edsr", blocks=1, width=4, scale=2)
    with helpers.record_compilations() as found:
        for side in range(33, 49):
            image = np.zeros((side, 81 - side, 3), np.uint8)
            assert srgan_jax.upscale(made, image).shape == (2 * side, 2 * (81 - side), 3)
    with helpers.record_compilations() as again:
        srgan_jax.upscale(other, np.zeros((34, 47, 3), np.uint8))
    assert len(found) <= 2 and not again
    with helpers.record_compilations() as both:  # upright and turned
        srgan_jax.upscale(made, np.zeros((90, 47, 3), np.uint8), self_ensemble=True)
    assert len(both) <= 2


def test_canvases_are_few_and_hardly_larger_than_the_image():
    sides = np.arange(1, 4097)
    canvases = np.array([canvas_side(side) for side in sides.tolist()])
    assert (canvases >= sides).all() and (canvases <= np.maximum(16, 1.25 * sides + 15)).all()
    assert (np.diff(canvases) >= 0).all() and len(set(canvases.tolist())) == 8 + 5 * 4
    assert all(canvas_side(canvas) == canvas for canvas in canvases.tolist())
