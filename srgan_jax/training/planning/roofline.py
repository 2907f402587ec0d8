"""`estimate`: the time that a program needs at least, by published peaks, and warnings with their remedies."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from srgan_jax.training.planning import hlo
from srgan_jax.training.planning.hardware import LAUNCH_SECONDS, Topology
from srgan_jax.training.planning.programs import Program

GPU_FRACTION = 0.75  # of a GPU's memory that JAX takes when it starts
COPIED, PADDED = 0.5, 0.25  # fractions of the tiles, and of the memory, above which a warning is given


class Estimate(NamedTuple):
    """What one device needs for one call of a program. Every number of seconds is estimated but the last.

    Attributes:
      memory: bytes by kind: "state", "tiles", "frozen", "inputs", "activations", "padding", "program".
      available: bytes that a program may use; 0 where unknown.
      seconds: at least needed for "arithmetic", "memory", "launches" and "links", those that are known and not 0.
      limit: the largest of them; "" where none is known.
      compiler_seconds: the compiler's own estimate; None without one.
      updates_per_second: by the compiler's estimate, else at most, by the limit; None where neither is known.
      measured_seconds: None if the program wasn't run.
    """

    memory: Mapping[str, float]
    available: float
    seconds: Mapping[str, float]
    limit: str
    compiler_seconds: float | None
    updates_per_second: float | None
    measured_seconds: float | None


def estimate(program: Program, counts: hlo.Counts, topology: Topology) -> Estimate:
    """Returns what one device of a topology needs for a program."""
    hardware = topology.hardware
    peak = hardware.flops if program.dtype == "bfloat16" else hardware.float32_flops
    needed = {
        "arithmetic": program.operations / peak if peak else 0.0,
        "memory": counts.bytes / hardware.bandwidth if hardware.bandwidth else 0.0,
        "launches": counts.launches * LAUNCH_SECONDS * (hardware.platform == "gpu"),
        "links": counts.sent(topology.devices) / hardware.link if hardware.link else 0.0,
    }
    seconds = {name: value for name, value in needed.items() if value}
    limit = max(seconds, key=lambda name: seconds[name], default="")
    compiler = counts.cycles / hardware.clock if counts.cycles and hardware.clock else None
    slowest = compiler or (seconds[limit] if limit else None)
    return Estimate(
        memory_by_kind(program, counts), hardware.memory * (GPU_FRACTION if hardware.platform == "gpu" else 1),
        seconds, limit, compiler, program.updates / slowest if slowest else None, program.measured_seconds,
    )  # fmt: skip


def memory_by_kind(program: Program, counts: hlo.Counts) -> Mapping[str, float]:
    """Returns the bytes of a device that a program uses. The padding of activations is estimated by their layouts."""
    memory = program.memory
    if not memory:
        return dict(program.sizes)
    arguments = memory["argument"] - sum(program.sizes.values())
    activations = memory["temp"] + memory["output"] - memory["alias"]
    padding = counts.padding * activations
    return dict(program.sizes) | {
        "activations": activations - padding,
        "padding": max(arguments, 0) + padding,
        "program": memory["generated_code"],
    }


def warnings(program: Program, counts: hlo.Counts, found: Estimate, topology: Topology) -> Iterator[str]:
    """Yields the warnings about a program, each with its remedy."""
    total, each = sum(found.memory.values()), program.batch / topology.devices
    remedy = "try --config.remat=True, --config.micro_batches=2 or a smaller --config.data.batch_size"
    if program.error:
        yield f"doesn't fit on the device ({program.error}); {remedy}"
        return
    if found.available and total > found.available:
        yield f"doesn't fit: {total / 1e9:.1f} GB of {found.available / 1e9:.1f} GB; {remedy}"
    if program.sizes["tiles"] and counts.largest_copy >= COPIED * program.sizes["tiles"]:
        yield (
            f"the tiles are copied: {counts.largest_copy / 1e6:,.0f} MB are written by one kernel; use "
            "--config.data.source=stream"
        )
    if counts.padding > PADDED and counts.worst:
        sizes = ",".join(map(str, counts.worst.padded))
        yield (
            f"{counts.padding:.0%} of the memory of large arrays is padding: {counts.worst.dtype}"
            f"[{','.join(map(str, counts.worst.shape))}] takes [{sizes}]; numbers of channels that are multiples of "
            "128, and of crops on a device that are multiples of 8, fill it"
        )
    if program.name != "upscale":
        yield from _batch_warnings(program, counts, found, topology, each)


def _batch_warnings(
    program: Program, counts: hlo.Counts, found: Estimate, topology: Topology, each: float
) -> Iterator[str]:
    if topology.devices > 1 and each <= 1:
        yield f"one crop a device; with --config.data.batch_size={16 * topology.devices} each has 16"
    hardware = topology.hardware
    if found.limit != "memory" or not program.operations:
        return
    arithmetic, memory = found.seconds["arithmetic"], found.seconds["memory"]
    wanted = f"{hardware.flops / hardware.bandwidth:,.0f} operations a byte, this program has"
    intensity = program.operations / counts.bytes
    fixed = min((2 * program.sizes["state"] + program.sizes["frozen"]) / hardware.bandwidth, memory)
    gain = arithmetic - (memory - fixed)  # by which arithmetic grows more than memory, for this number of crops
    if gain > 0:
        batch = math.ceil(each * fixed / gain) * topology.devices
        remedy = f"--config.data.batch_size={batch} would balance them"
    else:
        remedy = "a larger batch alone doesn't change it, more channels do"
    yield f"limited by memory: the device wants {wanted} {intensity:,.0f}; {remedy}"
