"""`compile_programs`: the updates of a config, compiled in a child process for hardware that need not be there."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import jax

from srgan_jax.runtime import extras
from srgan_jax.runtime.errors import UserError
from srgan_jax.training.planning.hardware import Topology, find_topology

# What libtpu would ask the metadata server of a TPU's host.
TPU_VARIABLES = {
    "TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_LOG_DIR": "disabled", "ALLOW_MULTIPLE_LIBTPU_LOAD": "true",
}  # fmt: skip
EXTRAS = {"tpu": "plan-tpu", "gpu": "plan-cuda"}


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
        command = [sys.executable, "-m", "srgan_jax.training.planning.child", str(asked), str(found)]
        status, printed = _run(command, _environment(topology, request.measure), Path(folder, "stderr"))
        if not found.exists():
            lines = [line.strip()[:500] for line in printed.splitlines() if line.strip()]
            ended = f"exit status {status}"
            if status < 0:  # it can't say why itself
                lines, ended = [], f"ended by signal {-status}; is there memory enough?"
            raise UserError(f"compiling for {request.topology} failed, {': '.join([ended, *lines[-1:]])}")
        answer = json.loads(found.read_text())
    if "error" in answer:
        raise UserError(answer["error"])
    return [Program(**program | {"notes": tuple(program["notes"])}) for program in answer["programs"]]


def _run(command: list[str], environment: dict[str, str], printed: Path) -> tuple[int, str]:
    """Returns the status of the child, and what it printed to standard error, which the file `printed` receives.

    The child ends when its standard input does, and so with this process, whatever ends it.
    """
    with open(printed, "wb") as file:
        child = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=file
        )
        with child:
            try:
                child.wait()
            finally:
                child.kill()  # after an exception here, such as Ctrl-C
    return child.returncode, printed.read_text(errors="replace")


def _require(platform: str) -> None:
    """Raises UserError if the compiler of a platform isn't installed."""
    if platform not in EXTRAS:
        return
    extras.require(EXTRAS[platform], f"compiling for a {platform.upper()}")
    if platform == "gpu" and jax.__version_info__ < (0, 12):
        raise UserError(
            f"compiling for a GPU needs jax 0.12 or newer, and so Python 3.12 or newer; here is jax {jax.__version__}"
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
