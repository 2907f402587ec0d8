import jax
import jax.numpy as jnp
import numpy as np
import pytest

from srgan_jax.data import batches, sampling
from srgan_jax.degradations import DEGRADATIONS
from srgan_jax.ops import color, resize

SEED = jax.random.key_data(jax.random.key(3))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 399])
def test_shuffled_is_a_permutation(size):
    order = jax.jit(lambda seed: sampling.shuffled(jnp.arange(size), size, seed))
    orders = np.stack([order(jnp.uint32(seed)) for seed in range(50)])
    assert (np.sort(orders, axis=1) == np.arange(size)).all()


def test_shuffled_is_uniform():
    # 20,000 orders of 5 items: each is at each place 4,000 times, with a std of sqrt(20000 * .2 * .8) = 57.
    orders = jax.vmap(lambda seed: sampling.shuffled(jnp.arange(5), 5, seed))(jnp.arange(20_000, dtype=jnp.uint32))
    counts = np.stack([np.bincount(orders[:, place], minlength=5) for place in range(5)])
    assert np.abs(counts - 4000).max() < 5 * 57
    # And each of the 20 ordered pairs in the first two places 1,000 times, std 31.
    pairs = np.bincount(np.asarray(orders[:, 0] * 5 + orders[:, 1]), minlength=25).reshape(5, 5)
    assert np.abs(pairs[~np.eye(5, dtype=bool)] - 1000).max() < 5 * 31


def test_every_epoch_has_every_image_once():
    batch, image_count = 4, 10
    indices = np.arange(batch)
    choose = jax.jit(lambda step: sampling.choose_images(SEED, step, indices, batch, image_count))
    chosen = np.concatenate([choose(np.int32(step)) for step in range(10)])  # 40 samples: four epochs
    epochs = chosen.reshape(4, image_count)
    assert (np.sort(epochs, axis=1) == np.arange(image_count)).all()
    assert len({tuple(epoch) for epoch in epochs}) == 4  # each in its own order


def test_sample_keys_depend_on_the_place_in_the_global_batch():
    whole = sampling.sample_keys(SEED, 5, jnp.arange(8))
    part = sampling.sample_keys(SEED, 5, jnp.arange(4, 8))
    assert (jax.random.key_data(whole)[4:] == jax.random.key_data(part)).all()
    assert len({tuple(k) for k in np.asarray(jax.random.key_data(whole))}) == 8
    other = sampling.sample_keys(SEED, 6, jnp.arange(8))
    assert (jax.random.key_data(whole) != jax.random.key_data(other)).any(axis=1).all()


def test_crop_corners_are_uniform():
    keys = sampling.sample_keys(SEED, 0, jnp.arange(6000))
    corners = np.asarray(sampling.choose_corners(keys, jnp.tile(jnp.array([[12, 35]]), (6000, 1)), 10))
    # Three rows and 26 columns: 2,000 a row (std 37), 231 a column (std 15).
    assert np.abs(np.bincount(corners[:, 0], minlength=3) - 2000).max() < 5 * 37 and corners[:, 0].max() == 2
    assert np.abs(np.bincount(corners[:, 1], minlength=26) - 231).max() < 5 * 15 and corners[:, 1].max() == 25


def test_lr_of_a_crop_equals_that_of_the_whole_image(photo):
    """Without augmentation, a crop aligned with the LR grid has the LR image that the whole image has there."""
    scale, margin, crop = 4, 8, 32
    image = photo[:200, :240]
    whole = np.asarray(resize.downscale(color.from_integers(image), scale))
    y, x = 40, 64
    window = image[y - margin : y + crop + margin, x - margin : x + crop + margin]
    keys = sampling.sample_keys(SEED, 0, jnp.arange(1))
    options = {"degrade": DEGRADATIONS["bicubic"].degrade, "scale": scale, "margin_px": margin}
    batch = batches.make_batch(window[None], keys, augment="none", **options)
    np.testing.assert_array_equal(batch["hr"][0], color.from_integers(image[y : y + crop, x : x + crop]))
    np.testing.assert_array_equal(
        batch["lr"][0], whole[y // scale : (y + crop) // scale, x // scale : (x + crop) // scale]
    )
    cut = resize.downscale(color.from_integers(image[y : y + crop, x : x + crop]), scale)
    assert (cut != batch["lr"][0]).any()  # what a crop without margin would give


@pytest.mark.parametrize(
    ("augment", "expected"),
    [("none", {0}), ("horizontal", {0, 4}), ("flips", {0, 2, 4, 6}), ("flips_rotations", set(range(8)))],
)
def test_augmentation_gives_the_orientations_of_its_name(augment, expected, photo):
    scale, margin, crop = 2, 4, 16
    window = photo[50 : 50 + crop + 2 * margin, 60 : 60 + crop + 2 * margin]
    options = {"degrade": DEGRADATIONS["bicubic"].degrade, "scale": scale, "margin_px": margin}
    keys = sampling.sample_keys(SEED, 0, jnp.arange(64))
    batch = batches.make_batch(jnp.tile(window[None], (64, 1, 1, 1)), keys, augment=augment, **options)
    hr = color.from_integers(window[margin:-margin, margin:-margin])
    turns = [np.rot90(np.asarray(image), k) for image in (hr, hr[:, ::-1]) for k in range(4)]
    found = [next(i for i, turn in enumerate(turns) if (turn == image).all()) for image in np.asarray(batch["hr"])]
    assert set(found) == expected  # numbers 4 to 7 are mirrored; 2 is half a turn, 6 upside down
    lr = np.asarray(batches.make_batch(window[None], keys[:1], augment="none", **options)["lr"][0])
    lr_turns = [np.rot90(image, k) for image in (lr, lr[:, ::-1]) for k in range(4)]
    for index, image in zip(found, np.asarray(batch["lr"]), strict=True):
        assert np.abs(image - lr_turns[index]).max() <= 1.01 / 255  # rounding between the passes is not symmetric
