"""Helpers of several test files: small generators, small training runs, and the files that runs write."""

import contextlib
import importlib.util
import io
import itertools
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest

import srgan_jax
from srgan_jax import models

ROOT = Path(__file__).parents[1]


def random_weights(seed: int = 0, **fields) -> srgan_jax.Weights:
    """Returns a generator with random weights, large enough that all of its receptive field affects the output."""
    module = models.build(models.GENERATORS, fields)
    image = np.zeros((1, 8, 8, fields.get("channels", 3)), np.float32)
    return srgan_jax.make_weights(random_variables(module, image, seed), fields)


def random_variables(module, image: np.ndarray, seed: int = 0) -> dict:
    """Returns random variables of a module, without compiling anything."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        if path[-1].key == "kernel":
            return rng.normal(0, np.prod(leaf.shape[:-1]) ** -0.5, leaf.shape).astype(np.float32)
        low, high = {"var": (0.5, 1.5), "scale": (0.5, 1.5), "slope": (0.1, 0.4)}.get(path[-1].key, (-0.1, 0.1))
        return rng.uniform(low, high, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(module.init, jax.random.key(0), image))


def compact_tensors(scale=2, width=4, convs=2, slopes=True, seed=0):
    """Returns random tensors of an SRVGGNetCompact, with the names that other programs give them."""
    rng = np.random.default_rng(seed)
    sizes = [3, *[width] * (convs + 1), 3 * scale**2]
    tensors = {}
    for index, (before, after) in enumerate(itertools.pairwise(sizes)):
        tensors[f"body.{2 * index}.weight"] = 0.3 * rng.standard_normal((after, before, 3, 3), np.float32)
        tensors[f"body.{2 * index}.bias"] = 0.1 * rng.standard_normal(after, np.float32)
        if slopes and index <= convs:
            tensors[f"body.{2 * index + 1}.weight"] = rng.random(after, np.float32)
    return tensors


def small_fields(fields: dict, **small) -> dict:
    """Returns the fields of a generator, with those of `small` that it has; its name is "srresnet" if not given."""
    fields = {"name": "srresnet"} | fields
    known = models.fields_of(models.GENERATORS[fields["name"]])
    return {name: value for name, value in small.items() if name in known} | fields


def import_spandrel(module: str):
    """Returns a module of spandrel, such as "architectures.SPAN"; the test is skipped where it isn't installed.

    Two of spandrel's other architectures import torchvision, which some installations of PyTorch lack.
    """
    if importlib.util.find_spec("spandrel") is None:
        pytest.skip("spandrel is not installed")
    if "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is None:
        functional = types.ModuleType("torchvision.transforms.functional")
        functional.InterpolationMode = functional.rotate = functional.normalize = None  # type: ignore[attr-defined]
        names = ("torchvision", "torchvision.transforms")
        sys.modules |= {functional.__name__: functional} | {name: types.ModuleType(name) for name in names}
    if "spandrel" not in sys.modules:  # an import without torchvision has failed, and left some of its modules
        for name in [name for name in sys.modules if name.startswith("spandrel.")]:
            del sys.modules[name]
    importlib.import_module("spandrel")  # first: in itself it imports its architectures in an order that works
    return importlib.import_module(f"spandrel.{module}")


def command(workdir: Path, **more) -> list[str]:
    """Returns the command line that trains a small SRResNet and SRGAN, with overrides of config keys."""
    values = {
        "data.crop_px": 32, "generator.blocks": 1, "generator.width": 8, "discriminator.width": 4,
        "discriminator.dense": 8, "log_every_steps": 1,
    }  # fmt: skip
    overrides = [f"--config.{key}={value}" for key, value in (values | more).items()]
    main = [sys.executable, "-m", "srgan_jax.main", "--config", "configs/srgan_mse.py", "--workdir", str(workdir)]
    return [*main, *overrides]


def run(command: list[str]) -> subprocess.CompletedProcess:
    """Runs a command line until it ends."""
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=500)


def environment(devices: int = 1) -> dict[str, str]:
    """Returns environment variables of such a command: CPU devices, fast compilation, the cache of the tests."""
    cache = {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir}
    return os.environ | cache | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla_flags(devices)}


def xla_flags(devices: int) -> str:
    """Returns XLA's flags for small programs on virtual CPU devices: fast compilation rather than fast execution."""
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    if jax.__version_info__ < (0, 11):  # halves the compilation time; later versions stop at this flag
        flags += " --xla_cpu_use_fusion_emitters=false"
    return flags


MEASURED = ("seconds", "images_per_second", "host_memory_gb", "device_memory_gb")  # differ from run to run


def read_metrics(workdir: Path) -> list[dict]:
    """Returns the lines of a run's metrics, without those measured of the machine, which differ from run to run."""
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in MEASURED} for row in found]


class Terminal(io.StringIO):
    """A replacement of standard error that claims to be a terminal."""

    def isatty(self) -> bool:
        """Returns True."""
        return True


def call_when_logged(monkeypatch, functions: dict) -> None:
    """Calls each function once, when the metrics of its (stage, update) are written.

    Replaces TensorBoard's writer, which is called last, by one that writes nothing.
    """
    waiting = dict(functions)

    class Writer:
        def __init__(self, folder, **options):
            self.stage = Path(folder).name

        def add_scalar(self, name, value, step):
            waiting.pop((self.stage, step), lambda: None)()

        def add_image(self, *args, **options):
            pass

        def close(self):
            pass

    monkeypatch.setattr("tensorboardX.SummaryWriter", Writer)


@contextlib.contextmanager
def record_compilations():
    """Yields a list that gets an entry whenever XLA compiles a program or JAX loads one from the cache on disk."""
    found = []

    def listen(event, seconds, **_):
        if "backend_compile" in event:
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        if hasattr(jax.monitoring, "unregister_event_duration_listener"):  # JAX 0.8.3 and newer
            jax.monitoring.unregister_event_duration_listener(listen)


def read_checkpoint(folder: Path) -> dict[str, np.ndarray]:
    """Returns every array of a checkpoint, by its path in the tree."""
    import orbax.checkpoint as ocp

    tree = ocp.StandardCheckpointer().restore(folder.absolute() / "default")
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def train(config, workdir, **options) -> srgan_jax.Weights:
    """Trains with an editable config; returns the generator."""
    from srgan_jax.config.resolve import resolve
    from srgan_jax.training.loop import train_and_evaluate

    return train_and_evaluate(resolve(config), workdir, **options)


def build_stage(config, name: str):
    """Returns a stage of a run, built and checked."""
    from srgan_jax.config.resolve import resolve
    from srgan_jax.training import setup

    return next(stage for stage in setup.build(resolve(config)) if stage.name == name)


def build_plan(config):
    """Returns the plan by which a run's batches are made."""
    from srgan_jax.config.resolve import resolve
    from srgan_jax.training import setup

    run = resolve(config)
    return setup.make_plan(run.data, run.degradation, run.generator)


def open_images(config, workdir) -> tuple:
    """Returns the training images and the validation images of a run."""
    from srgan_jax.config.resolve import resolve
    from srgan_jax.training import samples

    run = resolve(config)
    return samples.open_images(run.data, run.validation, build_plan(config), workdir)


def trace_update(config, name: str) -> tuple:
    """Returns the update of a stage and the shapes of its arguments, the first of which is the state."""
    from srgan_jax.training import nonfinite

    stage, count = build_stage(config, name), config.data.batch_size
    update = nonfinite.skip_nonfinite(stage.update, max_skips=config.guard.max_skips)
    side = stage.plan.window["crop_px"] + 2 * stage.plan.window["margin_px"]
    sharded = {
        "indices": jax.ShapeDtypeStruct((count,), np.int32),
        "windows": jax.ShapeDtypeStruct((count, stage.draws, side, side, stage.plan.channels), np.uint8),
    }
    variables = stage.extractor.variables if stage.extractor else None
    return update, jax.eval_shape(stage.init, None), {"store": None, "extractor": variables}, sharded


def update_shapes(config, name: str) -> tuple:
    """Returns the shapes of a stage's state before and after its first update, and of the metrics; compiles nothing."""
    update, before, *arguments = trace_update(config, name)
    return before, *jax.eval_shape(update, before, *arguments)
