"""Tests that tiled inference equals inference on the whole image."""

import itertools

import helpers
import jax
import numpy as np
import pytest

import srgan_jax
from srgan_jax import cli, inference, models
from srgan_jax.inference.tiler import upscale_tiles
from srgan_jax.runtime.trees import FrozenMapping


def _architecture(**fields):
    module = models.build(models.GENERATORS, fields)
    return FrozenMapping(models.architecture_of(models.GENERATORS, module))


@pytest.fixture(scope="module")
def shallow():
    return helpers.random_weights(name="srresnet", blocks=1, width=4)


# ---------------------------------------------------------------------------------------------- geometry


def test_halo_by_hand():
    # Radius of SRResNet's receptive field: 9x9 4; 16 blocks of two 3x3 32; the convolution after them 1; 3x3 at LR's
    # size 1, at twice its size 1/2; 9x9 at four times its size 1: 39.5.
    assert inference.halo_px(_architecture(name="srresnet", width=2)) == (40, True)
    # MSRResNet: 1 + 32 + 1 + 1/2 + 1/4 + 1/4 = 35.
    assert inference.halo_px(_architecture(name="msrresnet", width=2)) == (35, True)
    # 30 blocks: 4 + 60 + 1 + 1 + 1/2 + 1 = 67.5, beyond 64.
    assert inference.halo_px(_architecture(name="srresnet", width=2, blocks=30)) == (64, False)
    # Nothing but the interpolated base and its convolutions: 1 + 1 and two pixels of the bilinear kernel.
    assert inference.halo_px(_architecture(name="compact", width=2, blocks=0)) == (2, True)


def test_spans_cover_with_two_halos_between():
    rng = np.random.default_rng(0)
    for _ in range(500):
        halo = int(rng.integers(0, 20))
        tile = 2 * halo + int(rng.integers(2, 50))
        size = int(rng.integers(1, 400))
        spans = inference.spans(size, tile, halo)
        kept = [pixel for span in spans for pixel in range(span.keep_start, span.keep_stop)]
        assert kept == list(range(size))
        for span in spans:
            assert span.start >= 0 and span.start % 2 == 0 and span.stop <= size
            assert min(tile, size) - 1 <= span.stop - span.start <= tile
            assert span.keep_start - span.start >= halo or span.start == 0
            assert span.stop - span.keep_stop >= halo or span.stop == size


def test_chosen_tiles_fit_the_images_and_the_memory():
    assert inference.choose_tile([(300, 448)], 12, 10**6) == (304, 448)  # one tile, rounded up to 16
    height, width = inference.choose_tile([(3000, 4000)], 40, 256**2)
    assert height * width <= 256**2 and min(height, width) > 80
    assert inference.choose_tile([(3000, 4000)], 40, 100) == (96, 96)  # the smallest that holds two halos
    assert len(set(inference.choose_tile([(300, 448)], 12, 10**6, square=True))) == 1
    # Many small images and a large one: not a tile that is mostly empty for nearly all of them.
    assert max(inference.choose_tile([(64, 64)] * 999 + [(90, 64)], 12, 10**6)) <= 96


# ---------------------------------------------------------------------------------------------- equality


LOCAL = {  # fields of generators whose receptive field has a limit
    "restoration": {"scale": 1, "padding": "keras"},
    "realplksr": {"layer_norm": True},
    "swinir": {"depths": (4,), "heads": (2,), "width": 8, "window": 8},
}
GLOBAL = {  # of generators that average or attend over the whole image
    "realplksr": {"blocks": 1, "width": 8},
    "dat": {"depths": (3,), "heads": (2,), "width": 16, "split": (4, 8)},
}


def _small(name, fields):
    return helpers.small_fields({"name": name} | fields, width=4, growth=4, upsampling_width=4)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[] if n == "compact" else pytest.mark.slow)
        for n in sorted(models.GENERATORS.keys() - GLOBAL | LOCAL.keys())
    ],
)
def test_tiles_equal_the_whole_at_full_depth(name):
    """For each architecture; with one block where the receptive field's radius at full depth is over 64 px."""
    fields = _small(name, LOCAL.get(name, {}))
    if not inference.halo_px(_architecture(**fields))[1]:
        fields["blocks"] = 1
    params = helpers.random_weights(**fields)
    halo, exact = inference.halo_px(params.architecture)
    assert exact
    side = inference.smallest_tile(halo)
    rng = np.random.default_rng(1)
    for size in ((1, 1), (side + 9, side + 20)):
        image = rng.random((*size, 3), np.float32)
        whole = np.asarray(srgan_jax.upscale(params, image))
        tiled = srgan_jax.upscale_tiled(params, image, tile_px=(side, side))
        np.testing.assert_allclose(tiled, whole, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(GLOBAL))
def test_tiles_of_generators_that_see_the_whole_image_are_close_to_it(name):
    """Such a generator has the largest halo; its tiles begin where windows do, and small images are exact."""
    params = helpers.random_weights(**_small(name, GLOBAL[name]))
    halo, exact = inference.halo_px(params.architecture)
    period = inference.period_px(params.architecture)
    assert (halo, exact) == (inference.MAX_HALO_PX, False)
    side = inference.smallest_tile(halo, period)
    starts = [span.start for span in inference.spans(side + 41, side, halo, period)]
    assert len(starts) > 1 and not any(start % period for start in starts)
    rng = np.random.default_rng(1)
    for size, error in (((1, 3), 1e-5), ((side + 41, side - 5), 0.05)):
        image = rng.random((*size, 3), np.float32)
        whole = np.asarray(srgan_jax.upscale(params, image))
        tiled = srgan_jax.upscale_tiled(params, image, tile_px=(side, side))
        assert np.abs(tiled - whole).max() < error


def test_tiles_equal_the_whole_at_random_sizes(shallow):
    rng = np.random.default_rng(2)
    sizes = [(1, 1), (1, 60), (33, 2), *(tuple(rng.integers(3, 120, 2)) for _ in range(5))]
    for height, width in sizes:
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        whole = np.asarray(srgan_jax.upscale(shallow, image)).astype(int)
        tiled = srgan_jax.upscale_tiled(shallow, image, tile_px=(32, 48))
        assert tiled.dtype == np.uint8 and tiled.shape == whole.shape
        assert np.abs(tiled - whole).max() <= 1, (height, width)


def _stitched(params, image, side, halo):
    """Returns the result of square tiles that overlap by twice `halo`, each upscaled alone, without `Tiler`."""
    sr, scale = np.full((params.scale * len(image), params.scale * len(image), 3), np.nan, np.float32), params.scale
    spans = inference.spans(len(image), side, halo)
    for rows, columns in itertools.product(spans, spans):
        tile = srgan_jax.upscale(params, image[rows.start : rows.stop, columns.start : columns.stop])
        kept, place = (
            tuple(slice(scale * (s.keep_start - first), scale * (s.keep_stop - first)) for s, first in pairs)
            for pairs in (((rows, rows.start), (columns, columns.start)), ((rows, 0), (columns, 0)))
        )
        sr[place] = np.asarray(tile)[kept]
    return sr


def test_a_halo_smaller_by_one_pixel_is_not_enough(shallow):
    image = np.random.default_rng(3).random((60, 60, 3), np.float32)
    whole = np.asarray(srgan_jax.upscale(shallow, image))
    halo, _ = inference.halo_px(shallow.architecture)
    np.testing.assert_allclose(_stitched(shallow, image, 2 * halo + 4, halo), whole, atol=1e-5)
    assert np.abs(_stitched(shallow, image, 2 * halo + 4, halo - 1) - whole).max() > 1e-5


def test_a_folder_of_mixed_sizes_compiles_once(shallow):
    def run(sizes):
        images = [inference.from_array(np.zeros((*size, 3), np.uint8)) for size in sizes]
        return [sum(len(strip) for strip in strips) for _, strips in inference.Tiler(shallow, (32, 32)).upscale(images)]

    run([(7, 9)])
    with helpers.record_compilations() as compiled:
        assert run([(7, 9), (1, 1), (100, 20), (33, 47), (64, 64)]) == [28, 4, 400, 132, 256]
        assert compiled == []
        jax.jit(lambda x: x + 2)(1.0)
    assert compiled  # the listener works


def test_batches_hold_tiles_of_several_images(shallow):
    """A batch has a tile for each device: that many small images are taken before the first result."""
    taken = []

    def images():
        for index in range(8):
            taken.append(index)
            yield inference.from_array(np.zeros((8, 8, 3), np.uint8))

    after = [len(taken) for _, _ in inference.Tiler(shallow, (32, 32)).upscale(images())]
    count = jax.local_device_count()
    assert count == 4 and after == [4] * count + [8] * count


def _with_failing_large_tiles(monkeypatch, params, fails):
    """Returns the generator `params` with an architecture that calls `fails` for tiles higher than 40 px."""

    class Greedy(type(params.module())):
        def __call__(self, image, **options):
            return super().__call__(fails(image) if image.shape[1] > 40 else image, **options)

    monkeypatch.setitem(models.GENERATORS, "greedy", Greedy)
    return srgan_jax.make_weights(dict(params.variables), dict(params.architecture) | {"name": "greedy"})


def _raise_out_of_memory(*_):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")


def _upscale_with_reports(params, greedy, image, **options):
    """Upscales with tiles that don't fit into memory, compares with the whole image, and returns the reported lines."""
    lines = []
    tiler = inference.Tiler(greedy, (64, 64), report=lines.append, **options)
    ((_, strips),) = [(source, list(strips)) for source, strips in tiler.upscale([inference.from_array(image)])]
    np.testing.assert_allclose(np.concatenate(strips), srgan_jax.upscale(params, image), atol=1e-5)
    return lines


def test_out_of_memory_halves_the_tile(shallow, monkeypatch):
    greedy = _with_failing_large_tiles(monkeypatch, shallow, _raise_out_of_memory)
    (line,) = _upscale_with_reports(shallow, greedy, np.random.default_rng(4).random((90, 100, 3), np.float32))
    assert "out of memory" in line and "64 x 64" in line and "32 x 32" in line


def test_out_of_memory_with_the_smallest_tile_is_an_error(monkeypatch):
    deep = helpers.random_weights(name="srresnet", blocks=8, width=2)
    side = inference.smallest_tile(inference.halo_px(deep.architecture)[0])
    tiler = inference.Tiler(_with_failing_large_tiles(monkeypatch, deep, _raise_out_of_memory), (side, side))
    with pytest.raises(ValueError, match=f"not enough memory .*{side} x {side}"):
        list(tiler.upscale([inference.from_array(np.zeros((90, 100, 3), np.float32))]))


def test_two_late_out_of_memory_errors_halve_the_tile_once(shallow, monkeypatch):
    """Two batches are in flight when the first is fetched and fails: the second failure must not halve it again."""

    class Late:
        def __array__(self, *args, **kwargs):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    def limited(params, tiles, sizes):
        return Late() if tiles.shape[1] > 40 else upscale_tiles(params, tiles, sizes)

    monkeypatch.setattr(jax, "device_count", lambda: 1)  # with several CPU devices each batch is waited for
    image = np.random.default_rng(4).random((200, 200, 3), np.float32)
    (line,) = _upscale_with_reports(shallow, shallow, image, run=limited)
    assert "out of memory" in line and "64 x 64" in line and "32 x 32" in line


def test_thin_images_get_thin_tiles():
    params = helpers.random_weights(name="compact", width=2, blocks=8)
    for size in ((1, 900), (700, 3)):
        image = np.random.default_rng(8).integers(0, 256, (*size, 3), np.uint8)
        tiled = srgan_jax.upscale_tiled(params, image).astype(int)
        assert np.abs(tiled - np.asarray(srgan_jax.upscale(params, image))).max() <= 1


@pytest.mark.slow
def test_seams_are_measured_where_the_receptive_field_exceeds_the_halo():
    # 40 blocks: pixels beyond 64 px affect the result. The output is scaled down, so that nothing is clipped.
    params = helpers.random_weights(name="srresnet", blocks=40, width=2, scale=2, norm="none", activation="leaky_relu")
    variables = dict(params.variables["params"])
    kernel = variables["conv_out"]["kernel"]
    for size in ((8, 300), (300, 8)):
        image = np.random.default_rng(5).random((*size, 3), np.float32)
        loud = np.abs(params.module().apply(params.variables, image[None]) * 2 - 1).max()
        variables["conv_out"] = {"kernel": kernel / (2 * loud), "bias": np.zeros(3, np.float32)}
        quiet = srgan_jax.make_weights({"params": variables}, dict(params.architecture))
        tiler = inference.Tiler(quiet, (16, 144) if size[0] == 8 else (144, 16))
        assert not tiler.exact
        ((_, strips),) = [(source, list(strips)) for source, strips in tiler.upscale([inference.from_array(image)])]
        error = np.abs(np.concatenate(strips) - np.asarray(srgan_jax.upscale(quiet, image))).max()
        assert tiler.seam_difference and 0 < error < 1 and error / 10 < tiler.seam_difference < 10 * error


def test_upscale_reports_halo_and_difference_where_the_receptive_field_exceeds_the_halo(tmp_path, photo, capsys):
    """Once for a command, with two images in several tiles; not for an image in one tile, nor where tiles are exact."""
    path = tmp_path / "deep.safetensors"
    srgan_jax.save(path, helpers.random_weights(name="rrdb", blocks=1, width=4, growth=4, unshuffle=4, scale=1))
    for name, width in (("a", 170), ("b", 160), ("small", 16)):
        srgan_jax.write_image(tmp_path / f"{name}.png", photo[:16, :width])
    command = ["upscale", "--overwrite", "--tile", "144", "-o", str(tmp_path / "out"), "--weights"]
    assert cli.main([*command, str(path), *(str(tmp_path / f"{name}.png") for name in "ab")]) == 0
    line = "the receptive field of rrdb exceeds the halo of 64 px around its tiles: neighbouring tiles"
    assert capsys.readouterr().err.count(line) == 1
    assert cli.main([*command, str(path), str(tmp_path / "small.png")]) == 0
    assert cli.main([*command, "compact_x4", str(tmp_path / "a.png")]) == 0
    assert line not in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------- ensemble, alpha, errors


def test_self_ensemble_by_hand(shallow):
    image = np.random.default_rng(6).random((50, 37, 3), np.float32)
    by_hand = np.zeros((200, 148, 3))
    for flip in (1, -1):
        for turns in range(4):
            sr = np.asarray(srgan_jax.upscale(shallow, np.rot90(image[:, ::flip], turns).copy()))
            by_hand += np.rot90(sr, -turns)[:, ::flip] / 8
    np.testing.assert_allclose(srgan_jax.upscale(shallow, image, self_ensemble=True), by_hand, atol=1e-5)
    tiled = srgan_jax.upscale_tiled(shallow, image, tile_px=(32, 32), self_ensemble=True)
    np.testing.assert_allclose(tiled, by_hand, atol=1e-5)
    plain = np.asarray(srgan_jax.upscale(shallow, image))
    assert np.abs(plain - by_hand).max() > 1e-3


def _on_black(image):
    return image[..., :3].astype(float) * image[..., 3:] / 255


def test_colours_of_transparent_pixels_do_not_show_at_edges(bilinear):
    image = np.zeros((24, 24, 4), np.uint8)
    image[..., 1] = 255  # green where it can't be seen
    image[6:18, 6:18] = (200, 0, 0, 255)
    ((_, strips),) = [
        (source, list(strips))
        for source, strips in inference.Tiler(bilinear, (32, 32)).upscale([inference.from_array(image)])
    ]
    sr = np.concatenate(strips)
    assert sr.shape == (48, 48, 4) and sr.dtype == np.uint8
    assert _on_black(sr)[..., 1].max() == 0
    assert sr[sr[..., 3] > 0, 0].min() >= 199  # the edge is as red as the inside, only more transparent
    assert set(np.unique(sr[..., 3])) - {0, 255}  # and there is such an edge
    straight = np.asarray(srgan_jax.upscale(bilinear, image[..., :3]))
    assert _on_black(np.concatenate([straight, sr[..., 3:]], axis=-1))[..., 1].max() > 20  # without treatment of alpha


def test_regions_of_constant_alpha_stay_constant(shallow):
    image = np.random.default_rng(7).integers(0, 256, (20, 20, 2), np.uint8)
    image[..., 1] = 255
    image[:6, :, 1] = 0
    ((_, strips),) = [
        (source, list(strips))
        for source, strips in inference.Tiler(shallow, (32, 32)).upscale([inference.from_array(image)])
    ]
    sr = np.concatenate(strips)
    assert sr.shape == (80, 80, 2)
    assert (sr[:20] == 0).all() and (sr[28:, :, 1] == 255).all()


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.zeros((8, 8), np.uint8), {}, r"expected RGB \[H, W, 3\], got \(8, 8\)"),
        (np.zeros((0, 8, 3), np.uint8), {}, r"got \(0, 8, 3\)"),
        (np.zeros((8, 8, 3), np.int64), {}, r"expected uint8, or float in \[0, 1\], got int64"),
        (np.zeros((80, 80, 3), np.uint8), {"tile_px": (16, 16)}, "expected tiles of 22 px or more"),
        (np.zeros((80, 80, 3), np.uint8), {"tile_px": (48, 64), "self_ensemble": True}, "expected a square tile"),
    ],
)
def test_wrong_arguments_are_refused(shallow, image, options, message):
    with pytest.raises(ValueError, match=message):
        srgan_jax.upscale_tiled(shallow, image, **options)
