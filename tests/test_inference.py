import functools
import threading

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import srgan_jax
from srgan_jax import inference, models


@pytest.fixture(scope="module")
def params():
    fields = {"name": "srresnet", "blocks": 1, "width": 8, "norm": "none", "base": "bicubic"}
    module = models.build(models.GENERATORS, fields)
    return srgan_jax.make_weights(module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3))), fields)


@pytest.fixture(scope="module")
def lr(photo):
    return photo[100:112, 100:116]


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16", "bfloat16"])
def test_the_result_has_the_dtype_and_rank_of_the_input(params, lr, dtype):
    image = jnp.asarray(lr) if dtype == "uint8" else (jnp.asarray(lr) / 255).astype(dtype)
    one = srgan_jax.upscale(params, image)
    assert one.shape == (48, 64, 3) and one.dtype == image.dtype
    batch = srgan_jax.upscale(params, jnp.stack([image, image[::-1]]))
    assert batch.shape == (2, 48, 64, 3)
    np.testing.assert_allclose(batch[0].astype(jnp.float32), one.astype(jnp.float32), atol=1e-6)


def test_uint8_and_float_agree(params, lr):
    sr = srgan_jax.upscale(params, lr.astype(np.float32) / 255)
    assert sr.min() >= 0 and sr.max() <= 1
    np.testing.assert_array_equal(srgan_jax.upscale(params, lr), np.floor(np.asarray(sr) * 255 + 0.5).astype(np.uint8))


def test_under_jit(params, lr):
    plain = srgan_jax.upscale(params, lr)
    np.testing.assert_array_equal(jax.jit(srgan_jax.upscale)(params, lr), plain)


def test_under_vmap(params, lr):
    images = jnp.stack([lr, lr[::-1], lr[:, ::-1]])
    mapped = jax.vmap(srgan_jax.upscale, in_axes=(None, 0))(params, images)
    assert mapped.shape == (3, 48, 64, 3)
    np.testing.assert_array_equal(mapped[1], srgan_jax.upscale(params, images[1]))


def test_under_grad_equals_a_finite_difference(params, lr):
    image = jnp.asarray(lr, jnp.float32) / 255 * 0.8 + 0.1
    direction = jax.random.normal(jax.random.key(0), image.shape)

    def f(image):
        return (srgan_jax.upscale(params, image) * jnp.linspace(0, 1, 64)[None, :, None]).sum()

    gradient = (jax.grad(f)(image) * direction).sum()
    difference = (f(image + 1e-3 * direction) - f(image - 1e-3 * direction)) / 2e-3
    assert gradient == pytest.approx(float(difference), rel=1e-2)
    to_params = jax.grad(lambda p: srgan_jax.upscale(p, image).sum())(params)
    assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(to_params))


@pytest.mark.parametrize("axis_type", [AxisType.Explicit, AxisType.Auto])
@pytest.mark.parametrize("options", [{}, {"self_ensemble": True}])
def test_a_sharded_batch_gives_sharded_results(params, axis_type, options):
    """Explicit axes are what jax.make_mesh gives by default; a result is sharded as its image is."""
    lr = np.random.default_rng(4).random((4, 8, 12, 3), np.float32)
    mesh = jax.make_mesh((4,), ("d",), axis_types=(axis_type,))
    sharded = jax.device_put(lr, NamedSharding(mesh, PartitionSpec("d")))
    apply = functools.partial(srgan_jax.upscale, params, **options)
    expected = apply(lr)
    for run in (apply, jax.jit(apply)):
        sr = run(sharded)
        assert len({shard.device for shard in sr.addressable_shards}) == 4
        assert sr.addressable_shards[0].data.shape[0] == 1
        np.testing.assert_allclose(sr, expected, atol=2e-6)
    inside = jax.shard_map(apply, mesh=mesh, in_specs=PartitionSpec("d"), out_specs=PartitionSpec("d"))
    np.testing.assert_allclose(inside(sharded), expected, atol=2e-6)


def test_gradients_of_a_sharded_batch(params):
    lr = np.random.default_rng(4).random((4, 8, 12, 3), np.float32)
    sharded = jax.device_put(lr, NamedSharding(jax.make_mesh((4,), ("d",)), PartitionSpec("d")))
    gradient = jax.jit(jax.grad(lambda image: (srgan_jax.upscale(params, image, clip=False) ** 2).sum()))
    np.testing.assert_allclose(gradient(sharded), gradient(lr), rtol=1e-3, atol=1e-4)


def test_plain_variables_can_be_upscaled_with():
    module = models.build(models.GENERATORS, {"name": "srresnet", "blocks": 1, "width": 4, "scale": 2})
    image = jax.random.uniform(jax.random.key(1), (1, 6, 7, 3))
    variables = module.init(jax.random.key(0), image)
    expected = jnp.clip(module.apply(variables, image), 0, 1)
    np.testing.assert_allclose(srgan_jax.upscale(variables, image), expected, atol=1e-6)
    described = {"name": "srresnet", "blocks": 1, "width": 4, "scale": 2, "output": "tanh"}
    other = srgan_jax.upscale(variables, image, architecture=described)
    assert jnp.abs(other - expected).max() > 1e-3


def test_padding_to_a_canvas_does_not_change_the_result(params, lr):
    image = np.asarray(lr, np.float32) / 255
    canvas = np.pad(image, ((0, 9), (0, 3), (0, 0)), mode="edge")
    framed = inference.upscale_canvas(params, canvas, (12, 16))[:48, :64]
    np.testing.assert_allclose(framed, srgan_jax.upscale(params, image), atol=1e-5)


def test_threads_get_their_own_results(params, photo):
    images = [photo[i : i + 12, :16] for i in range(8)]
    expected = [np.asarray(srgan_jax.upscale(params, image)) for image in images]
    results = [None] * 8

    def work(index):
        results[index] = np.asarray(srgan_jax.upscale(params, images[index]))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    for ours, theirs in zip(results, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8), np.uint8), r"expected RGB \[H, W, 3\] or \[N, H, W, 3\], got \(8, 8\)"),
        (np.zeros((8, 8, 4), np.uint8), r"got \(8, 8, 4\); img\[..., :3\] drops alpha"),
        (np.zeros((8, 8, 1), np.uint8), r"got \(8, 8, 1\); np.repeat\(img, 3, axis=-1\) converts gray to RGB"),
        (np.zeros((0, 8, 3), np.uint8), r"got \(0, 8, 3\), which has no pixels"),
        (np.zeros((8, 8, 3), np.int32), "expected uint8, or float in \\[0, 1\\], got int32"),
        (np.zeros((8, 8, 3), np.uint16), "got uint16; img / 65535 converts it to float"),
        (np.full((8, 8, 3), 200.0), r"expected floats in \[0, 1\], got 200 to 200; if 255 is white, pass img / 255"),
        (np.linspace(-1, 1, 192).reshape(8, 8, 3), r"expected floats in \[0, 1\], got -1 to 1"),
        ("photo.jpg", r"expected an array, got a file name; srgan_jax.read_image\(name\).frames\[0\] reads it"),
        (srgan_jax.Picture((np.zeros((8, 8, 3), np.uint8),)), r"got a Picture; its array is picture.frames\[0\]$"),
        ({"params": {}}, "expected an array, got weights; they are the first argument"),
    ],
)
@pytest.mark.parametrize("upscale", [srgan_jax.upscale, srgan_jax.upscale_tiled])
def test_wrong_images_are_refused(params, image, message, upscale):
    with pytest.raises(ValueError, match=message.replace(r" or \[N, H, W, 3\]", "(?: or .N, H, W, 3.)?")):
        upscale(params, image)


def test_floats_slightly_outside_the_range_are_accepted(params, lr):
    """Resampling gives such values. The values of JAX's arrays are not checked."""
    image = np.asarray(lr, np.float32) / 255 * 1.4 - 0.2
    np.testing.assert_array_equal(srgan_jax.upscale(params, image), srgan_jax.upscale(params, jnp.asarray(image)))


@pytest.mark.parametrize("upscale", [srgan_jax.upscale, srgan_jax.upscale_tiled])
def test_arguments_that_are_not_weights_are_refused(params, lr, upscale):
    with pytest.raises(ValueError, match=r"expected weights, got .*srgan_jax.load\(name\)"):
        upscale("photo_x4", lr)
    with pytest.raises(ValueError, match="expected an array, got weights; they are the first argument") as caught:
        upscale(lr, params)
    assert len(str(caught.value)) < 200
    with pytest.raises(ValueError, match="expected weights.* got ndarray"):
        upscale(lr, lr)


# ---------------------------------------------------------------------------------------------- blending


@pytest.fixture(scope="module")
def original_and_finetuned():
    """An SRResNet with converged batch statistics, the same trained further on another target, and LR images."""
    fields = {"name": "srresnet", "blocks": 2, "width": 8, "scale": 2}
    module = models.build(models.GENERATORS, fields)
    hr = jax.random.uniform(jax.random.key(1), (4, 32, 32, 3))
    lr = hr.reshape(4, 16, 2, 16, 2, 3).mean(axis=(2, 4))

    @jax.jit
    def update(variables, target):
        def loss(params):
            sr, changed = module.apply({**variables, "params": params}, lr, train=True, mutable=["batch_stats"])
            return jnp.abs(sr - target).mean(), changed

        grads, changed = jax.grad(loss, has_aux=True)(variables["params"])
        return {"params": jax.tree.map(lambda p, g: p - 0.05 * g, variables["params"], grads), **changed}

    variables = jax.jit(module.init)(jax.random.key(0), lr)
    ends = []
    for target in (hr, jnp.clip(hr * 1.3 - 0.1, 0, 1)):
        for _ in range(60):
            variables = update(variables, target)
        ends.append(srgan_jax.make_weights(variables, fields))
    return (*ends, lr)


def test_blending_with_0_and_1_gives_the_inputs(original_and_finetuned):
    first, second, lr = original_and_finetuned
    for fraction, end in ((0.0, first), (1.0, second)):
        np.testing.assert_allclose(
            srgan_jax.upscale(srgan_jax.blend(first, second, fraction), lr), srgan_jax.upscale(end, lr), atol=1e-4
        )


def test_blends_lie_between_both_results(original_and_finetuned):
    """The blend of fraction 0.5, after folding, is nearer to the mean of both results than these are to each other."""
    first, second, lr = original_and_finetuned
    results = [np.asarray(srgan_jax.upscale(end, lr)) for end in (first, second)]
    apart = np.abs(results[0] - results[1]).mean()
    blended = np.asarray(srgan_jax.upscale(srgan_jax.blend(first, second, 0.5), lr))
    assert np.abs(blended - (results[0] + results[1]) / 2).mean() < 0.25 * apart
    monotone = [np.asarray(srgan_jax.upscale(srgan_jax.blend(first, second, s), lr)) for s in (0.25, 0.75)]
    from_first = [np.abs(p - results[0]).mean() for p in (monotone[0], blended, monotone[1], results[1])]
    assert from_first == sorted(from_first)


def test_blending_different_architectures_is_refused(original_and_finetuned, params):
    with pytest.raises(ValueError, match="one architecture .*base: none and bicubic"):
        srgan_jax.blend(original_and_finetuned[0], params, 0.5)
    unfolded = {"name": "srresnet", "blocks": 1, "width": 4, "block_order": "activation_norm"}
    module = models.build(models.GENERATORS, unfolded)
    other = srgan_jax.make_weights(module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3))), unfolded)
    with pytest.raises(ValueError, match="normalisation after an activation can't be folded"):
        srgan_jax.blend(other, other, 0.5)
    with pytest.raises(ValueError, match="these variables are not an SRResNet's"):
        srgan_jax.blend(original_and_finetuned[0], {}, 0.5)
    with pytest.raises(ValueError, match="share=1.5: expected a number between 0 .* and 1 "):
        srgan_jax.blend(original_and_finetuned[0], original_and_finetuned[1], 1.5)


def test_without_clipping_the_output_is_that_of_the_generator():
    """And its gradient isn't 0 where the output leaves [0, 1]."""
    params = helpers.random_weights(name="srvggnet_compact", blocks=1, width=4, scale=2)
    lr = np.random.default_rng(0).random((8, 9, 3), np.float32)
    raw = np.asarray(params.module().apply(params.variables, lr[None])[0])
    assert raw.min() < 0 or raw.max() > 1
    np.testing.assert_allclose(srgan_jax.upscale(params, lr, clip=False), raw, atol=1e-6)
    np.testing.assert_allclose(srgan_jax.upscale(params, lr), np.clip(raw, 0, 1), atol=1e-6)
    outside = (raw < 0) | (raw > 1)

    def total(image, clip):
        return (srgan_jax.upscale(params, image, clip=clip) * outside).sum()

    assert not np.asarray(jax.grad(total)(jnp.asarray(lr), True)).any()
    assert np.asarray(jax.grad(total)(jnp.asarray(lr), False)).any()
    averaged = srgan_jax.upscale(params, lr, clip=False, self_ensemble=True)
    assert np.asarray(averaged).min() < 0 or np.asarray(averaged).max() > 1
    with pytest.raises(ValueError, match="clip=False: expected a float image in .*got uint8; pass img / 255"):
        srgan_jax.upscale(params, np.zeros((4, 4, 3), np.uint8), clip=False)


def test_the_computation_in_bfloat16_is_close_and_returns_the_dtype_of_the_image():
    params = helpers.random_weights(name="srvggnet_compact", blocks=1, width=4, scale=2)
    lr = np.random.default_rng(0).random((8, 9, 3), np.float32)
    exact, half = (np.asarray(srgan_jax.upscale(params, lr, dtype=dtype)) for dtype in (None, jnp.bfloat16))
    assert half.dtype == np.float32
    assert 0 < np.abs(half - exact).max() < 0.1  # bfloat16 has 8 bits of precision


def test_variables_of_another_generator_need_their_architecture():
    params = helpers.random_weights(name="rrdb", blocks=1, width=4, growth=4)
    lr = np.zeros((8, 8, 3), np.float32)
    with pytest.raises(ValueError, match=r"not an SRResNet's; pass architecture=.'name': \.\.\., .*rrdb"):
        srgan_jax.upscale(params.variables, lr)
    sr = srgan_jax.upscale(params.variables, lr, architecture=params.architecture)
    np.testing.assert_array_equal(sr, srgan_jax.upscale(params, lr))
