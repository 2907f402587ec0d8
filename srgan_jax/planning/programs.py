"""`compile_programs`: the updates of a config, compiled in a child process for hardware that need not be there."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from srgan_jax.planning.hardware import Topology, find_topology, target_config
from srgan_jax.runtime.errors import UserError

# What libtpu would ask the metadata server of a TPU's host.
TPU_VARIABLES = {
    "TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_LOG_DIR": "disabled", "ALLOW_MULTIPLE_LIBTPU_LOAD": "true",
}  # fmt: skip
MODULES = {"tpu": ("libtpu", "plan-tpu"), "gpu": ("jax_plugins.xla_cuda13", "plan-cuda")}  # and the extra that adds it


@dataclasses.dataclass(frozen=True)
class Request:
    """What to compile, for which devices.

    Attributes:
      topology: as `hardware.find_topology` reads it.
      config: recipe or config file.
      overrides: `--config.KEY=VALUE`, as for training.
      stages: names; () are all stages of the config.
      tiles: number of tiles of the training data on each device; 0 for windows that come from the host.
      upscale_px: height and width of an image; its tile is compiled instead of the updates.
      measure: whether to run the program, too, on the devices of this machine.
      imports: modules or files that add to the tables.
    """

    topology: str
    config: str = "srgan"
    overrides: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    tiles: int = 1024
    upscale_px: tuple[int, int] | None = None
    measure: bool = False
    imports: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program, as one device runs it.

    Attributes:
      name: of the stage, or "upscale".
      dtype: of the computation.
      batch: samples of all devices together; of "upscale" the tiles.
      operations: additions and multiplications of convolutions and matrix products on one device.
      updates: made by one call, `config.steps_per_call`.
      sizes: bytes of the arguments before padding: "state", "tiles", "frozen" (weights that aren't trained), "inputs".
      hlo: the optimised HLO as text.
      memory: bytes of "argument", "output", "alias", "temp" and "generated_code", as XLA states them.
      compile_seconds: how long the compilation took.
      measured_seconds: of one call; None if it wasn't run.
      notes: lines about what was assumed.
      error: why it couldn't be compiled, for want of memory; then `hlo` and `memory` are empty.
    """

    name: str
    dtype: str
    batch: int
    operations: float
    updates: int
    sizes: Mapping[str, int]
    hlo: str
    memory: Mapping[str, int]
    compile_seconds: float
    measured_seconds: float | None = None
    notes: tuple[str, ...] = ()
    error: str = ""


def compile_programs(request: Request) -> list[Program]:
    """Returns the programs of a request, one for each stage. A child process compiles them.

    Raises:
      UserError: the topology or the config is wrong, or the package that compiles for it isn't installed.
    """
    topology = find_topology(request.topology)
    if not request.measure:
        _require(topology.hardware.platform)
    with tempfile.TemporaryDirectory() as folder:
        asked, found = Path(folder, "request.json"), Path(folder, "programs.json")
        asked.write_text(json.dumps(dataclasses.asdict(request)))
        command = [sys.executable, "-m", "srgan_jax.planning.programs", str(asked), str(found)]
        child = subprocess.run(command, env=_environment(topology, request.measure), capture_output=True, text=True)
        if not found.exists():
            lines = [line for line in child.stderr.splitlines() if line.strip()] or [f"exit status {child.returncode}"]
            raise UserError(f"compiling for {request.topology} failed: {lines[-1].strip()[:500]}")
        answer = json.loads(found.read_text())
    if "error" in answer:
        raise UserError(answer["error"])
    return [Program(**program | {"notes": tuple(program["notes"])}) for program in answer["programs"]]


def _require(platform: str) -> None:
    module, extra = MODULES.get(platform, ("jax", ""))
    try:
        missing = importlib.util.find_spec(module) is None
    except ModuleNotFoundError:  # of the package that holds it
        missing = True
    if missing:
        name = platform.upper()
        raise UserError(
            f'compiling for a {name} needs a package that is not installed: pip install "srgan-jax[{extra}]"'
        )


def _environment(topology: Topology, measure: bool) -> dict[str, str]:
    """Returns the environment of the child: without an accelerator's driver JAX itself runs on the CPU."""
    found = dict(os.environ)
    found["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    found.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if measure:
        return found
    if topology.hardware.platform == "cpu":
        found["JAX_NUM_CPU_DEVICES"] = str(topology.devices)
    return found | {"JAX_PLATFORMS": "cpu"} | (TPU_VARIABLES if topology.hardware.platform == "tpu" else {})


def find_devices(topology: Topology, measure: bool = False) -> Sequence[Any]:
    """Returns JAX's devices of a topology: descriptions that programs are compiled for, or those of this machine.

    Raises:
      UserError: this machine's devices, if they are asked for, are others.
    """
    from jax.experimental import topologies

    platform = topology.hardware.platform
    if measure or platform == "cpu":
        found = jax.devices()
        if len(found) != topology.devices or not found[0].device_kind.startswith(topology.hardware.kind):
            raise UserError(
                f"--measure needs the hardware: expected {topology.devices} x {topology.hardware.kind}, this machine has "
                f"{len(found)} x {found[0].device_kind}"
            )
        return found
    if platform == "gpu":
        options = {"target_config": target_config(topology.kind), "topology": f"1x1x{topology.devices}"}
        return topologies.get_topology_desc(topology.kind, "cuda", **options).devices
    sides = "x".join(map(str, topology.shape))
    alone = {"chips_per_host_bounds": [1, 1, 1]} if topology.devices == 1 else {}
    return topologies.get_topology_desc(f"{topology.kind}:{sides}", "tpu", **alone).devices


def compile_here(request: Request) -> list[Program]:
    """Returns the programs of a request, compiled in this process, whose environment must be that of the child."""
    from srgan_jax.planning.lowering import lower_updates, lower_upscaling

    topology = find_topology(request.topology)
    devices = find_devices(topology, request.measure)
    lower = lower_upscaling if request.upscale_px else lower_updates
    return [_compile(request, lowered) for lowered in lower(request, topology, devices)]


def _compile(request: Request, lowered: Any) -> Program:
    start = time.perf_counter()
    common = lowered.name, lowered.dtype, lowered.batch, lowered.operations, lowered.updates, lowered.sizes
    try:
        compiled = lowered.program.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        line = " ".join(str(error).split())[:300]
        return Program(*common, "", {}, time.perf_counter() - start, notes=lowered.notes, error=line)
    seconds = time.perf_counter() - start
    stats = compiled.memory_analysis()
    kinds = ("argument", "output", "alias", "temp", "generated_code")
    memory = {kind: getattr(stats, f"{kind}_size_in_bytes") for kind in kinds}
    measured = lowered.measure(compiled) if request.measure else None
    return Program(*common, compiled.as_text(), memory, seconds, measured, lowered.notes)


def main() -> None:
    """Compiles the request in the file of the first argument; writes programs, or an error, into the second."""
    from srgan_jax.runtime.user_code import import_module

    asked, found = (Path(argument) for argument in sys.argv[1:])
    fields: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in json.loads(asked.read_text()).items()
    }
    request = Request(**fields)
    try:
        for module in request.imports:
            import_module(module)
        answer: dict[str, Any] = {"programs": [dataclasses.asdict(program) for program in compile_here(request)]}
    except (UserError, OSError) as error:
        answer = {"error": str(error)}
    found.write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
