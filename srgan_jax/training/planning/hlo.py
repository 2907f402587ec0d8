"""`count`: what a device does in a program, read from the text of its optimised HLO."""

import collections
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

# Operations that compute nothing, or only name others.
FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all",
    "partition-id", "replica-id", "opt-barrier", "domain", "copy-start", "copy-done", "async-start", "async-update",
    "async-done", "call-start", "call-update",
}  # fmt: skip
CUTS = ("slice", "dynamic-slice", "gather")  # of their first operand they only read what they return
FREE_CALLS = ("AllocateBuffer", "ConcatBitcast", "Sharding")  # targets of custom-calls that XLA resolves itself
# Bytes that each of n devices sends, at least, for an operand of one byte.
SENT = {
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-gather": lambda n: n - 1.0,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1.0,
    "collective-broadcast": lambda n: 1.0,
}
SHAPE = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\](?:\{([\d,]*)(?::([^}]*))?\})?")
LINE = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*)")
OPCODE = re.compile(r"(?:^|\s)([a-z][a-z0-9\-]*)\(")
PIXELS = ("u8", "u16")
NEVER = 1 << 40  # cycles; the compiler's mark of an unknown number


class Array(NamedTuple):
    """One array in the HLO.

    Attributes:
      dtype: XLA's name, such as "bf16".
      shape: its sizes.
      padded: sizes in the order of memory, each a multiple of the tile of its layout.
      on_chip: whether the compiler keeps it in the processor's own memory.
    """

    dtype: str
    shape: tuple[int, ...]
    padded: tuple[int, ...]
    on_chip: bool

    @property
    def bits(self) -> int:
        """Bits of an element."""
        digits = re.search(r"\d+", self.dtype)
        return int(digits[0]) if digits else 8 * (self.dtype == "pred")

    @property
    def bytes(self) -> int:
        """Bytes without padding."""
        return math.prod(self.shape) * self.bits // 8

    @property
    def padded_bytes(self) -> int:
        """Bytes in memory."""
        return math.prod(self.padded) * self.bits // 8


class Operation(NamedTuple):
    """A line of the HLO: opcode, the arrays that it returns, the names of its operands, and the text after them."""

    opcode: str
    results: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: str


class Collective(NamedTuple):
    """Collectives of one kind and dtype: their number, and the bytes of their operands on a device."""

    kind: str
    dtype: str
    number: int
    bytes: int


class Counts(NamedTuple):
    """What a device does in one run of a program. Loops are counted as often as they turn.

    Attributes:
      kernels: operations that are started one by one, without collectives.
      collectives: by kind and dtype.
      bytes: read and written by the kernels in the device's memory, padding included.
      cycles: the compiler's estimate; 0 where it makes none.
      padding: fraction of the bytes of the larger results that is padding.
      worst: the result with the most padding, as (array, bytes of padding); None without padding.
      largest_copy: bytes of the largest array that is copied, or that holds 8-bit or 16-bit pixels.
    """

    kernels: int
    collectives: tuple[Collective, ...]
    bytes: int
    cycles: int
    padding: float
    worst: Array | None
    largest_copy: int

    @property
    def launches(self) -> int:
        """Kernels and collectives."""
        return self.kernels + sum(entry.number for entry in self.collectives)

    def sent(self, devices: int) -> float:
        """Returns the bytes that each of `devices` sends at least."""
        return sum(SENT[entry.kind](devices) * entry.bytes for entry in self.collectives) if devices > 1 else 0.0


def find_arrays(text: str) -> tuple[Array, ...]:
    """Returns the arrays of a shape as HLO writes it, such as `(bf16[2,8]{1,0:T(8,128)(2,1)}, f32[])`."""
    return tuple(_array(*groups) for groups in SHAPE.findall(text))


def _array(dtype: str, sizes: str, order: str, layout: str) -> Array:
    shape = tuple(int(size) for size in sizes.split(",") if size)
    minor_first = [int(axis) for axis in order.split(",") if axis] or list(reversed(range(len(shape))))
    memory = [shape[axis] for axis in reversed(minor_first)]
    tile = re.match(r"T\(([\d,]+)\)", layout)
    sides = [int(side) for side in tile[1].split(",")] if tile else []
    for axis, side in zip(range(len(memory) - 1, -1, -1), reversed(sides), strict=False):
        memory[axis] = -(-memory[axis] // side) * side
    return Array(dtype, shape, tuple(memory), bool(re.search(r"S\([1-9]", layout)))


def parse(hlo: str) -> tuple[Mapping[str, Mapping[str, Operation]], str]:
    """Returns the operations of each computation by name, and the name of the computation that is run."""
    computations: dict[str, dict[str, Operation]] = {}
    current, entry = {}, ""
    for line in hlo.splitlines():
        header = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line)
        if header:
            current = computations[header[2]] = {}
            entry = header[2] if header[1] else entry
        elif (found := LINE.match(line)) and (opcode := OPCODE.search(found[2])):
            shape, rest = found[2][: opcode.start()], found[2][opcode.end() :]
            end = _closing(rest)
            names = tuple(re.findall(r"%([\w.\-]+)", rest[:end]))
            attributes = rest[:end] if opcode[1] in ("constant", "parameter") else rest[end:]
            current[found[1]] = Operation(opcode[1], find_arrays(shape), names, attributes)
    return computations, entry


def _closing(text: str) -> int:
    """Returns the position of the bracket that closes one before `text`."""
    depth = 1
    for position in (match.start() for match in re.finditer(r"[()]", text)):
        depth += 1 if text[position] == "(" else -1
        if not depth:
            return position
    return len(text)


def count(hlo: str) -> Counts:
    """Returns what a program does; `hlo` is the text of its optimised HLO, of one device."""
    computations, entry = parse(hlo)
    kernels = moved = cycles = largest_copy = 0
    found: collections.Counter[tuple[str, str]] = collections.Counter()
    sums: collections.Counter[tuple[str, str]] = collections.Counter()
    results: list[Array] = []
    for name, times, is_fused in _visits(computations, entry):
        operations = computations[name]
        for operation in operations.values():
            kind = operation.opcode.removesuffix("-start")
            if kind in SENT:
                arrays = _operand_arrays(operation, operations)
                found[kind, arrays[0].dtype] += times
                for array in arrays:
                    sums[kind, array.dtype] += times * array.bytes
            if is_fused or operation.opcode.endswith("-done"):
                continue
            cycles += times * _cycles(operation)
            if kind in SENT or (operation.opcode in FREE and operation.opcode != "copy-start"):
                continue
            if any(f'"{target}"' in operation.attributes for target in FREE_CALLS):
                continue
            kernels += times * (operation.opcode != "copy-start")
            moved += times * _moved(operation, operations, computations)
            results += operation.results[:1] if operation.opcode == "copy-start" else operation.results
            copied = [a.bytes for a in operation.results if a.dtype in PIXELS or operation.opcode.startswith("copy")]
            largest_copy = max([largest_copy, *copied])
    pairs = tuple(Collective(*key, found[key], sums[key]) for key in sums)
    large = [array for array in results if array.bytes >= 1e5 and not array.on_chip]
    padded = sum(array.padded_bytes for array in large)
    worst = max(large, key=lambda array: array.padded_bytes - array.bytes, default=None)
    padding = 1 - sum(array.bytes for array in large) / padded if padded else 0.0
    worst = worst if worst and worst.padded_bytes > worst.bytes else None
    return Counts(kernels, pairs, moved, cycles, padding, worst, largest_copy)


def _visits(
    computations: Mapping[str, Mapping[str, Operation]], name: str, times: int = 1, is_fused: bool = False
) -> Iterator[tuple[str, int, bool]]:
    """Yields the computations that one run enters: their name, how often, and whether they are part of a kernel."""
    yield name, times, is_fused
    for operation in computations[name].values():
        attributes, opcode = operation.attributes, operation.opcode
        turns = _turns(attributes, computations) if opcode == "while" else 1
        called = re.findall(r"(?:body|condition|calls|true_computation|false_computation)=%?([\w.\-]+)", attributes)
        if opcode in ("call", "call-start", "async-start"):
            called += re.findall(r"to_apply=%?([\w.\-]+)", attributes)
        if branches := re.search(r"branch_computations=\{([^}]*)\}", attributes):
            called += re.findall(r"%([\w.\-]+)", branches[1])[:1]  # one branch runs
        for inner in called:
            if inner in computations:
                fused = is_fused or opcode in ("fusion", "custom-call")
                yield from _visits(computations, inner, times * turns, fused)


def _turns(attributes: str, computations: Mapping[str, Mapping[str, Operation]]) -> int:
    """Returns how often a loop turns: what XLA states, else the largest constant in its condition."""
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', attributes):
        return int(known[1])
    condition = re.search(r"condition=%?([\w.\-]+)", attributes)
    operations = computations.get(condition[1], {}) if condition else {}
    constants = [operation.attributes for operation in operations.values() if operation.opcode == "constant"]
    return max((int(text[0]) for text in (re.findall(r"\d+", line) for line in constants) if text), default=1)


def _operand_arrays(operation: Operation, operations: Mapping[str, Operation]) -> Sequence[Array]:
    return [array for name in operation.operands if name in operations for array in operations[name].results]


def _moved(
    operation: Operation, operations: Mapping[str, Operation], computations: Mapping[str, Mapping[str, Operation]]
) -> int:
    """Returns the bytes that a kernel reads and writes in the device's memory."""
    results = operation.results[:1] if operation.opcode == "copy-start" else operation.results
    written = sum(array.padded_bytes for array in results if not array.on_chip)
    whole = sum(array.padded_bytes for array in results)
    called = re.search(r"calls=%?([\w.\-]+)", operation.attributes) if operation.opcode == "fusion" else None
    inner = computations.get(called[1], {}) if called else {}
    parameters = {entry.attributes: name for name, entry in inner.items() if entry.opcode == "parameter"}
    read = 0
    for index, name in enumerate(operation.operands):
        arrays = [array for array in operations[name].results if not array.on_chip] if name in operations else []
        cut = whole if operation.opcode in CUTS and not index else _cut_bytes(parameters.get(str(index), ""), inner)
        read += sum(array.padded_bytes if cut is None else min(array.padded_bytes, cut) for array in arrays)
    return written + read


def _cut_bytes(name: str, inner: Mapping[str, Operation]) -> int | None:
    """Returns the bytes that a kernel reads of the operand `name` if it only cuts parts out of it; None otherwise."""
    users = {user: entry for user, entry in inner.items() if name in entry.operands}
    found = 0
    for user, entry in users.items():
        if entry.opcode in CUTS and entry.operands[0] == name:
            part = sum(array.padded_bytes for array in entry.results)
        else:
            part = _cut_bytes(user, inner) if entry.opcode == "bitcast" else None
        if part is None:
            return None
        found += part
    return found if users else None


def _cycles(operation: Operation) -> int:
    found = re.search(r'"estimated_cycles":"(\d+)"', operation.attributes)
    return int(found[1]) if found and int(found[1]) < NEVER else 0
