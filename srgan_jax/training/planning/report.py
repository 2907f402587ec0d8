"""The text and the JSON of `srgan-jax plan`."""

import collections
from collections.abc import Iterable, Sequence
from typing import Any

from srgan_jax.training.planning import hlo, roofline
from srgan_jax.training.planning.hardware import LAUNCH_SECONDS, LAUNCH_SOURCE, Topology
from srgan_jax.training.planning.programs import Program

NAMES = {"frozen": "weights that aren't trained"}
UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def describe(programs: Iterable[Program], topology: Topology) -> list[dict[str, Any]]:
    """Returns all numbers of the programs, in bytes, seconds and operations, for `--json`."""
    found = []
    for program in programs:
        counts = hlo.count(program.hlo)
        estimate = roofline.estimate(program, counts, topology)
        found.append({
            "name": program.name, "topology": topology.name, "devices": topology.devices, "batch": program.batch,
            "dtype": program.dtype, "compile_seconds": program.compile_seconds, "operations": program.operations,
            "bytes": counts.bytes, "kernels": counts.kernels,
            "collectives": [entry._asdict() for entry in counts.collectives],
            "sent_bytes": counts.sent(topology.devices), "memory": dict(estimate.memory),
            "memory_available": estimate.available, "estimated_seconds_at_least": dict(estimate.seconds),
            "limit": estimate.limit, "compiler_cycles": counts.cycles,
            "estimated_seconds_by_compiler": estimate.compiler_seconds,
            "estimated_updates_per_second": estimate.updates_per_second,
            "measured_seconds": estimate.measured_seconds,
            "warnings": [*roofline.warnings(program, counts, estimate, topology)], "notes": list(program.notes),
            "unverified": _unverified(topology),
        })  # fmt: skip
    return found


def header(config: str, topology: Topology) -> str:
    """Returns the lines about the devices, with the published peaks and their sources."""
    hardware = topology.hardware
    line = f"{config} on {topology.name}: {topology.devices} x {hardware.kind}"
    if not hardware.source:
        return f"{line}; its peaks are not known"
    lines = [
        line,
        f"published peaks of one: {_unit(hardware.flops)}FLOP/s in bfloat16, {_unit(hardware.float32_flops)}FLOP/s in "
        f"float32, memory {_unit(hardware.memory)}B, {_unit(hardware.bandwidth)}B/s, links {_unit(hardware.link)}B/s",
        f"  {hardware.source}",
    ]
    return "\n".join(lines + [f"  {note}" for note in _unverified(topology)])


def _unverified(topology: Topology) -> list[str]:
    """Returns what of the numbers that the estimates use has no source that could be read."""
    notes = [topology.hardware.unverified] if topology.hardware.unverified else []
    if topology.hardware.platform == "gpu":
        launch = f"a launch takes {LAUNCH_SECONDS * 1e6:.1f} µs at least: from memory, unverified, see {LAUNCH_SOURCE}"
        notes.append(launch)
    return notes


def as_text(described: Sequence[dict[str, Any]], topology: Topology) -> list[str]:
    """Returns the lines for one program after the other."""
    return [line for entry in described for line in _lines(entry, topology)]


def _lines(entry: dict[str, Any], topology: Topology) -> list[str]:
    each = entry["batch"] / topology.devices
    batch = "one tile" if entry["name"] == "upscale" else f"batch {entry['batch']} ({each:g} on each device)"
    lines = [f"{entry['name']}: {batch}, {entry['dtype']}, compiled in {entry['compile_seconds']:.0f} s"]
    memory = ", ".join(f"{NAMES.get(kind, kind)} {_unit(size)}B" for kind, size in entry["memory"].items() if size)
    available = f" of {_unit(entry['memory_available'])}B" if entry["memory_available"] else ""
    lines.append(f"  memory of a device: {_unit(sum(entry['memory'].values()))}B{available}: {memory}")
    collectives: collections.Counter[str] = collections.Counter()
    for found in entry["collectives"]:
        collectives[f"{found['kind']} of {_unit(found['bytes'])}B {found['dtype']}"] += found["number"]
    across = "; ".join(f"{number} {name}" for name, number in collectives.items()) or "no collectives"
    lines.append(
        f"  work of a device: {_unit(entry['operations'])}FLOP, {_unit(entry['bytes'])}B, "
        f"{entry['kernels']:,} kernels; {across}"
    )
    if seconds := entry["estimated_seconds_at_least"]:
        needed = ", ".join(f"{name} {_milliseconds(value)}" for name, value in seconds.items())
        lines.append(f"  estimated, at least: {needed}; {entry['limit']} is the limit")
    compiler, rate = entry["estimated_seconds_by_compiler"], entry["estimated_updates_per_second"]
    if compiler:
        lines.append(f"  estimated by the compiler: {_milliseconds(compiler)}, {entry['compiler_cycles']:,} cycles")
    if rate:
        lines.append(f"  estimated {'' if compiler else 'at most '}{rate:,.1f} {_what(entry)} a second")
    if entry["measured_seconds"]:
        measured = entry["measured_seconds"]
        lines.append(f"  measured: {_milliseconds(measured)} a call")
    lines += [f"  note: {line}" for line in entry["notes"]]
    return lines + [f"  warning: {line}" for line in entry["warnings"]]


def _what(entry: dict[str, Any]) -> str:
    return "tiles" if entry["name"] == "upscale" else "updates"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.3g} ms" if seconds < 1 else f"{seconds * 1e3:,.0f} ms"


def _unit(value: float) -> str:
    """Returns a number with three digits and the prefix of its unit, such as "1.23 G"."""
    for size, prefix in UNITS:
        if value >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g} "
