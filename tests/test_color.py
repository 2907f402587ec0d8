import jax.numpy as jnp
import numpy as np
import pytest

from srgan_jax.ops import color


@pytest.mark.parametrize(
    ("rgb", "y"),
    [((0, 0, 0), 16.0), ((1, 1, 1), 235.0), ((1, 0, 0), 81.481), ((0, 1, 0), 144.553), ((0, 0, 1), 40.966)],
)  # MATLAB's rgb2ycbcr on doubles, times 255
def test_luma(rgb, y):
    assert float(color.rgb_to_y(jnp.array(rgb, jnp.float32))[0]) * 255 == pytest.approx(y, abs=1e-4)


def test_uint8_round_trip_is_exact():
    values = np.arange(256, dtype=np.uint8)
    assert (np.asarray(color.to_uint8(color.from_integers(values))) == values).all()


def test_to_uint8_rounds_half_up_and_clips():
    floats = jnp.array([-0.1, 0.5 / 255, 1.49 / 255, 1.5 / 255, 2.0])
    assert color.to_uint8(floats).tolist() == [0, 1, 1, 2, 255]
    np.testing.assert_allclose(color.quantize(floats) * 255, [0, 1, 1, 2, 255], atol=1e-5)
