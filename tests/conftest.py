"""Shared by all tests: four virtual CPU devices, photographs, and a prepared data set."""

import os
import tempfile

import jax

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if os.environ["JAX_PLATFORMS"] == "cpu":  # tiny programs: compiling them quickly matters, running them doesn't
    flags = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    if jax.__version_info__ < (0, 11):  # a third of the compilation time; unknown flags would stop XLA
        flags += " --xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"

from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).parents[2] / "shared"  # reference data of the developers; absent on users' machines
jax.config.update("jax_default_matmul_precision", "highest")
_cache = tempfile.TemporaryDirectory()  # resumed runs find what they compiled before
jax.config.update("jax_compilation_cache_dir", _cache.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The developers' reference data."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the reference data (benchmarks, VGG19) are not on this machine")
    return SHARED / "data"


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A real photograph, `[300, 448, 3]` uint8."""
    import skimage.data

    return skimage.data.chelsea()[:, :448]


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory, photo) -> Path:
    """Six photographs of different sizes, with sub-folders."""
    from srgan_jax import images

    folder = tmp_path_factory.mktemp("photos")
    for index, (height, width) in enumerate([(96, 150), (120, 96), (64, 64), (200, 300), (150, 151), (99, 101)]):
        images.write_image(folder / f"part{index % 2}" / f"{index}.png", photo[index : index + height, :width])
    return folder


@pytest.fixture(scope="session")
def dataset(tmp_path_factory, photo_folder) -> str:
    """`photo_folder` prepared as a tfds data set."""
    from srgan_jax.data import builder

    out = str(tmp_path_factory.mktemp("dataset"))
    assert builder.prepare(str(photo_folder), out, min_side_px=32) == {}
    return out


@pytest.fixture(scope="session")
def bilinear():
    """A generator that enlarges twice, exactly bilinearly: all of its own kernels are zero."""
    import srgan_jax
    from srgan_jax import models

    fields = {"name": "compact", "blocks": 0, "width": 1, "scale": 2}
    module = models.build(models.GENERATORS, fields)
    shapes = jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    return srgan_jax.make_weights(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes), fields)


def _tiny(config):
    """Makes any config small enough for a test, without changing what it does."""
    config.data.batch_size = 4
    config.data.crop_px = 32
    config.data.resize_px = min(config.data.resize_px, 32)
    config.generator.blocks = 1
    config.generator.width = 8
    config.discriminator.width = 4
    if "dense" in config.discriminator:
        config.discriminator.dense = 8
    for name in ("growth", "upsampling_width"):
        if config.generator.get(name):
            config.generator[name] = 8
    config.stages.pretrain.total_steps = 2
    config.show_every_steps = min(config.show_every_steps, 1)
    config.stages.gan.total_steps = 2
    config.validation.folder = config.init_from = ""
    config.validation.hold_out = min(config.validation.hold_out, 1)
    config.sample_pictures = 1
    config.log_every_steps = 1
    return config


@pytest.fixture
def tiny():
    """A function that makes a config tiny."""
    return _tiny


@pytest.fixture(scope="session")
def paired_dataset(tmp_path_factory, photo) -> str:
    """Four photographs, sharp and blurred, prepared as a paired data set of one size."""
    from PIL import Image, ImageFilter

    from srgan_jax.data import builder

    folder = tmp_path_factory.mktemp("pairs")
    for name in ("hr", "lr"):
        (folder / name).mkdir()
    for index in range(4):
        picture = Image.fromarray(photo[10 * index : 10 * index + 64, :72])
        picture.save(folder / "hr" / f"{index}.png")
        picture.filter(ImageFilter.GaussianBlur(2)).save(folder / "lr" / f"{index}.png")
    out = str(tmp_path_factory.mktemp("paired"))
    assert builder.prepare(str(folder), out, min_side_px=32) == {}
    return out


@pytest.fixture(scope="session")
def extractor_files(tmp_path_factory, vgg_file) -> dict[str, Path]:
    """For each name in EXTRACTORS random weights, as the port scripts write them."""
    from flax.traverse_util import flatten_dict

    from srgan_jax import models, weights

    variables = jax.jit(models.build(models.EXTRACTORS, {"name": "resnet152v2"}).init)(
        jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32)
    )
    tensors = {"/".join(path): np.asarray(value) for path, value in flatten_dict(variables["params"]).items()}
    path = tmp_path_factory.mktemp("resnet") / "resnet152v2.safetensors"
    weights.save_extractor(path, tensors, {"network": "resnet152v2", "convention": "signed"})
    return {"vgg19": vgg_file, "resnet152v2": path}


@pytest.fixture(scope="session")
def vgg_file(tmp_path_factory) -> Path:
    """VGG19 with random weights, as `scripts/port_vgg19.py` writes it."""
    from srgan_jax import models, weights

    module = models.build(models.EXTRACTORS, {"name": "vgg19"})
    variables = jax.jit(module.init)(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    tensors = {
        f"{layer}/{kind}": np.asarray(value, np.float16)
        for layer, pair in variables["params"].items()
        for kind, value in pair.items()
    }
    path = tmp_path_factory.mktemp("vgg") / "vgg19.safetensors"
    weights.save_extractor(path, tensors, {"network": "vgg19", "convention": "caffe"})
    return path
