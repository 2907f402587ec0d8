"""The child process of `programs.compile_programs`: lowers and compiles, in an environment that the parent has set."""

import dataclasses
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies

from srgan_jax.runtime.errors import UserError
from srgan_jax.runtime.user_code import import_module
from srgan_jax.training.planning.hardware import Topology, find_topology, target_config
from srgan_jax.training.planning.lowering import Lowered, lower_updates, lower_upscaling
from srgan_jax.training.planning.programs import Program, Request


def find_devices(topology: Topology, measure: bool = False) -> Sequence[Any]:
    """Returns JAX's devices of a topology: descriptions that programs are compiled for, or those of this machine.

    Raises:
      UserError: this machine's devices, if they are asked for, are others.
    """
    platform = topology.hardware.platform
    if measure or platform == "cpu":
        found = jax.devices()
        if (len(found), found[0].device_kind) != (topology.devices, topology.hardware.kind):
            raise UserError(
                f"--measure needs the hardware: expected {topology.devices} x {topology.hardware.kind}, "
                f"this machine has {len(found)} x {found[0].device_kind}"
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
    topology = find_topology(request.topology)
    devices = find_devices(topology, request.measure)
    lower = lower_upscaling if request.upscale_px else lower_updates
    return [_compile(request, lowered) for lowered in lower(request, topology, devices)]


def _compile(request: Request, lowered: Lowered) -> Program:
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


def _end_with_parent() -> None:
    """Ends this process when its standard input ends: compiling takes minutes, and nobody would read the result."""
    sys.stdin.buffer.read()
    os._exit(1)


def main() -> None:
    """Compiles the request in the file of the first argument; writes programs, or an error, into the second."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
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
