"""Fixtures and hooks of all tests: four virtual CPU devices, photographs, prepared data sets, small configs."""

import functools
import os
import shutil
import signal
import tempfile

import helpers
import jax

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if os.environ["JAX_PLATFORMS"] == "cpu":
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {helpers.xla_flags(devices=4)}"

from pathlib import Path

import numpy as np
import pytest

# The developers' reference data (benchmarks, published weights and their outputs); absent on users' machines.
REFERENCE = Path(os.environ.get("SRGAN_JAX_REFERENCE") or Path(__file__).parents[2] / "shared" / "data")
jax.config.update("jax_default_matmul_precision", "highest")
_cache = tempfile.TemporaryDirectory()  # resumed runs load the programs of earlier runs
jax.config.update("jax_compilation_cache_dir", _cache.name)
os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name  # commands that tests start don't use the user's cache
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

# A job in the background, or under nohup, ignores these signals, and so would the commands that tests start.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _handler)

LONGEST = ("test_train", "test_processes", "test_resume", "test_configs")
DIVIDED = ("test_recipe_trains_and_resumes", "test_two_processes_equal_one_and_resume_each_others_runs")


def pytest_collection_modifyitems(items):
    """Sorts the slowest files first, so that several workers (pytest -n) end at about the same time."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keeps a file's tests in one worker, as they share fixtures; parameters of tests in DIVIDED may have another."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file, _, test = nodeid.partition("::")
            name, _, parameter = test.rstrip("]").partition("[")
            return f"{file} {parameter}" if name in DIVIDED else file

    config.option.loadscopereorder = False  # xdist would sort the scopes by their number of tests
    return ByFile(config, log)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the developers' reference data, `REFERENCE`; the test is skipped where it is absent."""
    if not REFERENCE.is_dir():
        pytest.skip(f"no reference data (benchmarks, published weights) at {REFERENCE}; set SRGAN_JAX_REFERENCE")
    return REFERENCE


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A real photograph, `[300, 448, 3]` uint8."""
    import skimage.data

    return skimage.data.chelsea()[:, :448]


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory, photo) -> Path:
    """A folder of six photographs of different sizes, in two sub-folders."""
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
def validation_folder(tmp_path_factory, photo) -> str:
    """A folder of three validation images."""
    from srgan_jax import images

    folder = tmp_path_factory.mktemp("held_out")
    for index, (height, width) in enumerate([(70, 90), (93, 61), (64, 64)]):
        images.write_image(folder / f"{index}.png", photo[:height, :width])
    return str(folder)


@pytest.fixture(scope="session")
def bilinear():
    """A generator that upscales by 2, exactly bilinearly: all of its own kernels are zero."""
    import srgan_jax
    from srgan_jax import models

    fields = {"name": "compact", "blocks": 0, "width": 1, "scale": 2}
    module = models.build(models.GENERATORS, fields)
    shapes = jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    return srgan_jax.make_weights(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes), fields)


def _tiny(config, crop_px=32):
    """Reduces the sizes of any config so that a test can run it; returns the config."""
    config.data.batch_size = 4
    config.data.crop_px = crop_px
    config.data.resize_px = min(config.data.resize_px, crop_px)
    config.generator.blocks = 1
    config.generator.width = 8
    for name, value in (("width", 4), ("dense", 8), ("tap_widths", (2, 2, 2)), ("patch_widths", (2, 2, 2))):
        if name in config.discriminator:
            config.discriminator[name] = value
    config.data.halo_px = min(config.data.halo_px, 2)
    for name in ("growth", "upsampling_width"):
        if config.generator.get(name):
            config.generator[name] = 8
    config.stages.pretrain.total_steps = 2
    config.stages.pretrain.warmup_steps = min(config.stages.pretrain.warmup_steps, 1)
    config.show_every_steps = min(config.show_every_steps, 1)
    config.stages.gan.total_steps = 2
    config.validation.folder = config.init_from = ""
    config.generator_of_init_from = False
    config.validation.hold_out = min(config.validation.hold_out, 1)
    config.sample_pictures = 1
    config.log_every_steps = 1
    return config


@pytest.fixture(scope="session")
def tiny():
    """A function that reduces a config to a small size."""
    return _tiny


@pytest.fixture(scope="session")
def paired_dataset(tmp_path_factory, photo) -> str:
    """A prepared data set of four pairs of one size: photographs (HR) and the same blurred (LR)."""
    from PIL import Image, ImageFilter

    from srgan_jax.data import builder

    folder = tmp_path_factory.mktemp("pairs")
    for name in ("hr", "lr"):
        (folder / name).mkdir()
    for index in range(4):
        image = Image.fromarray(photo[10 * index : 10 * index + 64, :72])
        image.save(folder / "hr" / f"{index}.png")
        image.filter(ImageFilter.GaussianBlur(2)).save(folder / "lr" / f"{index}.png")
    out = str(tmp_path_factory.mktemp("paired"))
    assert builder.prepare(str(folder), out, min_side_px=32) == {}
    return out


@pytest.fixture(scope="session")
def extractor_file(tmp_path_factory):
    """A function that writes random weights of a network in EXTRACTORS as `srgan-jax port` does; returns the path."""
    from flax.traverse_util import flatten_dict

    from srgan_jax import models, weights

    @functools.cache
    def make(name: str) -> Path:
        module = models.build(models.EXTRACTORS, {"name": name})
        params = flatten_dict(helpers.random_variables(module, np.zeros((1, 32, 32, 3), np.float32))["params"], sep="/")
        dtype, convention = {"vgg19": (np.float16, "caffe"), "resnet152v2": (np.float32, "signed")}[name]
        path = tmp_path_factory.mktemp("extractors") / f"{name}.safetensors"
        tensors = {key: value.astype(dtype) for key, value in params.items()}
        weights.save_extractor(path, tensors, {"network": name, "convention": convention})
        return path

    return make


@pytest.fixture(scope="session")
def vgg_file(extractor_file) -> Path:
    """A file of random VGG19 weights."""
    return extractor_file("vgg19")


@pytest.fixture(scope="module")
def weights(bilinear, tmp_path_factory):
    """The file of the generator `bilinear`."""
    import srgan_jax

    path = tmp_path_factory.mktemp("weights") / "bilinear.safetensors"
    srgan_jax.save(path, bilinear)
    return str(path)


@pytest.fixture
def upscale(bilinear, tmp_path):
    """A function that upscales one file by 2; returns the result's path and the reported lines."""
    from srgan_jax import bulk

    def run(name, format="", **options):
        lines = []
        jobs = bulk.find_jobs([tmp_path / name], tmp_path / "out", format=format)
        summary = bulk.upscale_files(jobs, bilinear, bulk.target_size(2), tile_px=32, report=lines.append, **options)
        assert summary.failed == [], summary.failed
        return summary.done[0].target, [line.split(": ", 1)[1] for line in lines]

    return run


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """Headless Chromium, driven by selenium; the test is skipped where it isn't installed."""
    program, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not (program and driver):
        pytest.skip("Chromium and its driver are not installed (scripts/test.sh --browser)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1280,1000"):
        options.add_argument(f"--{flag}")
    for flag in ("disable-background-networking", "disable-component-update", "disable-sync", "no-first-run"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.fixture
def browser(chromium):
    """Chromium with an empty page and an empty log: without the messages of the test before."""
    chromium.get("about:blank")
    chromium.get_log("browser")
    return chromium
