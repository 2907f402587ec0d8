"""Lowers the programs of a config from shapes alone: no image is read and no weights are needed."""

import dataclasses
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from srgan_jax import models, weights
from srgan_jax.config.command_line import apply_overrides
from srgan_jax.config.recipes import load_config
from srgan_jax.config.resolve import resolve
from srgan_jax.config.schema import DataConfig, ExtractorConfig, GuardConfig, RunConfig
from srgan_jax.data import memory
from srgan_jax.data.batch_plan import BatchPlan
from srgan_jax.inference import tile_grid
from srgan_jax.inference.tiler import upscale_tiles
from srgan_jax.runtime import devices as runtime_devices
from srgan_jax.runtime.errors import UserError, lookup
from srgan_jax.runtime.types import PyTree
from srgan_jax.training import setup, start
from srgan_jax.training.network_fields import find_generator, select_keys
from srgan_jax.training.planning.hardware import Topology
from srgan_jax.training.planning.operations import count_operations
from srgan_jax.training.planning.programs import Request
from srgan_jax.training.stage import Stage
from srgan_jax.training.stage_parts import map_stage
from srgan_jax.weights.networks import network_path, save_extractor

Shape = jax.ShapeDtypeStruct
SECONDS = 5.0  # for which a program is measured at least, after two calls


@dataclasses.dataclass(frozen=True)
class Lowered:
    """A program that can be compiled; for its fields see `programs.Program`.

    Attributes:
      arguments: shapes of the arguments.
      shared: how each argument is divided among the devices.
    """

    name: str
    program: Any
    dtype: str
    batch: int
    operations: float
    updates: int
    sizes: Mapping[str, int]
    notes: tuple[str, ...]
    arguments: tuple[PyTree, ...]
    mesh: Mesh
    shared: tuple[PartitionSpec, ...]

    def measure(self, run: Callable[..., Any]) -> float:
        """Returns the mean seconds of a call of the compiled program, on arguments that are zero."""
        made = [
            jax.device_put(
                jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), tree), NamedSharding(self.mesh, part)
            )
            for tree, part in zip(self.arguments, self.shared, strict=True)
        ]
        repeats = self.name != "upscale"  # an update's first result is the next call's first argument
        began, count = 0.0, -2
        while count < 2 or time.perf_counter() - began < SECONDS:
            if count == 0:
                began = time.perf_counter()
            result = jax.block_until_ready(run(*made))
            made[0] = result[0] if repeats else made[0]
            count += 1
        return (time.perf_counter() - began) / count


def lower_updates(request: Request, topology: Topology, devices: Sequence[Any]) -> Iterator[Lowered]:
    """Yields the update of each stage of a request, lowered for `devices`.

    Raises:
      UserError: the config, as training would report it.
    """
    run, notes = _read(request, topology)
    names = request.stages or run.stage_names
    for name in names:
        lookup(dict.fromkeys(run.stage_names), name, "stage of this config")
    with tempfile.TemporaryDirectory() as folder:
        if not Path(run.extractor.weights or network_path(run.extractor.name)).is_file():
            run = dataclasses.replace(run, extractor=_zero_extractor(run.extractor, Path(folder)))
        stages = setup.build(run, platform=devices[0].platform)
    mesh = runtime_devices.make_mesh(devices)
    for stage in stages:
        if stage.name in names:
            counts = request.tiles, run.steps_per_call
            yield _lower_update(stage, mesh, run.data, run.guard, *counts, notes)


def _read(request: Request, topology: Topology) -> tuple[RunConfig, tuple[str, ...]]:
    """Returns the config of a request, with a batch that the devices can divide, and notes."""
    config = load_config(request.config)
    apply_overrides(config, request.overrides, [])
    run, notes = resolve(config), []
    if run.generator_of_init_from:
        fields = start.generator_from(weights.load(run.init_from, fold=False), run.init_from)
        run = dataclasses.replace(run, generator=fields)
    if run.devices.mapping != "jit":
        raise UserError(f"config.devices.mapping={run.devices.mapping}: srgan-jax plan compiles jit only")
    divisor = topology.devices * run.micro_batches
    if run.data.batch_size % divisor:
        batch = run.data.batch_size * topology.devices
        notes.append(
            f"config.data.batch_size={run.data.batch_size} can't be divided among {topology.devices} devices x "
            f"{run.micro_batches} microbatches: {batch} is planned; train with --config.data.batch_size={batch}"
        )
        if batch % divisor:
            raise UserError(f"config.data.batch_size={run.data.batch_size}: expected a multiple of {divisor}")
        run = dataclasses.replace(run, data=dataclasses.replace(run.data, batch_size=batch))
    return run, tuple(notes)


def _zero_extractor(config: ExtractorConfig, folder: Path) -> ExtractorConfig:
    """Returns `config` with weights that are zero, which are written into `folder`."""
    network = lookup(models.EXTRACTORS, config.name, "network")
    module = models.build(models.EXTRACTORS, {"name": config.name, "taps": tuple(network.TAPS)})
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    named = jax.tree_util.tree_leaves_with_path(shapes)
    tensors = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.zeros(leaf.shape, np.float32) for path, leaf in named
    }
    file = folder / "extractor.safetensors"
    save_extractor(file, tensors, {"network": config.name, "convention": module.convention})
    return dataclasses.replace(config, weights=str(file))


def _lower_update(
    stage: Stage,
    mesh: Mesh,
    data: DataConfig,
    guard: GuardConfig,
    tiles: int,
    steps_per_call: int,
    notes: tuple[str, ...],
) -> Lowered:
    state = jax.eval_shape(stage.init, None)
    variables = jax.tree.map(np.asarray, stage.extractor.variables) if stage.extractor else None
    variables = jax.tree.map(lambda leaf: Shape(leaf.shape, leaf.dtype), variables)
    store, inputs = _data_shapes(data, stage, tiles)
    arguments = state, {"store": store, "extractor": variables}, inputs
    update: Any = map_stage(stage, guard, mesh, "jit")  # jax.jit's class has `trace`, too
    traced = update.trace(*arguments)
    operations = count_operations(traced.jaxpr) / mesh.size
    sizes = {"state": _bytes(state), "tiles": _bytes(store), "frozen": _bytes(variables)}
    sizes["inputs"] = _bytes(inputs) // mesh.size
    dtype = np.dtype(stage.generator.dtype).name
    shared = PartitionSpec(), PartitionSpec(), PartitionSpec(mesh.axis_names[0])
    counts = stage.plan.batch_size, operations, steps_per_call
    return Lowered(stage.name, traced.lower(), dtype, *counts, sizes, notes, arguments, mesh, shared)


def _data_shapes(data: DataConfig, stage: Stage, tiles: int) -> tuple[PyTree, PyTree]:
    """Returns the shapes of the store, None for `source=stream` or no tiles, and of the inputs that are divided."""
    plan, batch = stage.plan, stage.plan.batch_size
    dtype = np.uint16 if data.bits == 16 else np.uint8
    inputs: dict[str, Any] = {"indices": Shape((batch,), np.int32)}
    if not tiles or data.source != "memory":
        side = plan.window["crop_px"] + 2 * plan.window["margin_px"]
        inputs["windows"] = Shape((batch, stage.draws, side, side, plan.channels), dtype)
        return None, inputs
    side = memory.tile_side(data.tile_px // _unit(plan), plan.window["crop_px"] + 2 * plan.window["margin_px"])
    whole = {"first_tile": Shape((tiles,), np.int32), "columns": Shape((tiles,), np.int32)}
    whole["sizes"] = Shape((tiles, 2), np.int32)
    return {"tiles": Shape((tiles, *memory.tile_shape(side, plan.channels)), dtype)} | whole, inputs


def _unit(plan: BatchPlan) -> int:
    return plan.scale if plan.is_paired else 1  # tiles of pairs are measured in LR pixels


def _bytes(tree: PyTree) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def lower_upscaling(request: Request, topology: Topology, devices: Sequence[Any]) -> Iterator[Lowered]:
    """Yields the program that `srgan-jax upscale` runs on each device: SR of one tile of an image."""
    assert request.upscale_px
    run, _ = _read(request, topology)
    fields = select_keys(find_generator(str(run.generator["name"])), run.generator, setup.DEFAULTS.generator)
    module = models.build(models.GENERATORS, fields)
    architecture = models.architecture_of(models.GENERATORS, module)
    channels = models.channels_of(architecture)
    image = jnp.zeros((1, 32, 32, channels))
    variables = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(module.init, jax.random.key(0), image)
    )
    params = weights.make_weights(variables, architecture)
    halo = tile_grid.halo_px(params.architecture)[0]
    area = tile_grid.max_area(params, topology.hardware.memory)
    height, width = tile_grid.choose_tile([request.upscale_px], halo, area, period=tile_grid.period_px(architecture))
    mesh = runtime_devices.make_mesh(devices[:1])
    whole = NamedSharding(mesh, PartitionSpec())
    shape = lambda leaf: Shape(leaf.shape, leaf.dtype, sharding=whole)  # noqa: E731
    arguments = jax.tree.map(shape, (params, Shape((1, height, width, channels), np.float32), Shape((1, 2), np.int32)))
    grid = [
        len(tile_grid.spans(size, tile, halo)) for size, tile in zip(request.upscale_px, (height, width), strict=True)
    ]
    image_px = " x ".join(map(str, request.upscale_px))
    notes = (f"tiles of {height} x {width} pixels, one a device at a time; {math.prod(grid)} for {image_px} pixels",)
    sizes = {"state": 0, "tiles": 0, "frozen": _bytes(params), "inputs": _bytes(arguments[1:])}
    shared = (PartitionSpec(),) * 3
    traced = upscale_tiles.trace(*arguments)
    operations = count_operations(traced.jaxpr)
    yield Lowered("upscale", traced.lower(), "float32", 1, operations, 1, sizes, notes, arguments, mesh, shared)
