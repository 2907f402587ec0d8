"""The harness of the fuzz tests: damages files by fixed seeds, and counts exceptions, seconds and bytes.

A test gives a sound file, a function that reads it, and its bounds. The environment variable SRGAN_JAX_FUZZ_TRIES sets
the number of tries of each file, for runs of hours: SRGAN_JAX_FUZZ_TRIES=5000 pytest tests/fuzz.
"""

import collections
import multiprocessing
import os
import random
import resource
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from srgan_jax.runtime.errors import UserError

ALLOWED = (UserError, OSError)  # the commands print them in one line
INTERESTING = (0, 1, 2, 127, 128, 255, 256, 65535, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)
TOKENS = (b"null", b"-1", b"0", b"1e999", b"NaN", b"[]", b"{}", b'""', b"99999999999", b"true", b"\x00", b"../../x")


def tries(default: int) -> int:
    """Returns the number of tries of a test."""
    return int(os.environ.get("SRGAN_JAX_FUZZ_TRIES") or default)


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Returns a damaged copy: bytes changed, numbers replaced, parts cut, repeated, exchanged, or tokens inserted."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice((1, 2, 4, 8, 64, 1024)))
        kind = rng.randrange(7)
        if kind == 0 and data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at:end] = rng.randbytes(end - at)
        elif kind == 2:
            del data[at:end]
        elif kind == 3:
            data[at:at] = data[at:end] * rng.choice((1, 2, 50))
        elif kind == 4:
            width = rng.choice((1, 2, 4, 8))
            data[at : at + width] = (rng.choice(INTERESTING) % 256**width).to_bytes(
                width, rng.choice(("little", "big"))
            )
        elif kind == 5:
            data[at:at] = rng.choice(TOKENS)
        else:
            del data[at:]
    return bytes(data)


class Counts(collections.Counter):
    """What happened: "accepted", "refused", and the faults, which are all other keys."""

    def faults(self) -> dict[str, int]:
        """Returns the faults and how often each happened."""
        return {name: count for name, count in self.items() if name not in ("accepted", "refused")}


TOTAL = Counts()  # of all tests of this process


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def attempt(counts: Counts, name: str, read: Callable[[], object], seconds: float, most_bytes: int) -> None:
    """Calls `read` and counts the outcome; `name` describes the try, to repeat it."""
    before, started = _peak_bytes(), time.process_time()
    try:
        read()
        counts["accepted"] += 1
    except ALLOWED as error:
        counts["refused"] += 1
        if not str(error).strip() or "Traceback" in str(error):
            counts[f"{name}: a message that says nothing"] += 1
    except Exception as error:  # everything else is a traceback for the user
        counts[f"{name}: {type(error).__name__}: {str(error)[:100]}"] += 1
    if time.process_time() - started > seconds:
        counts[f"{name}: {time.process_time() - started:.1f} s"] += 1
    if _peak_bytes() - before > most_bytes:
        counts[f"{name}: {(_peak_bytes() - before) >> 20} MB"] += 1


def fuzz_file(
    file: Path,
    read: Callable[[], object],
    count: int,
    *,
    seed: int = 0,
    seconds: float = 5.0,
    most_bytes: int = 1 << 30,
    change: Callable[[bytes, random.Random], bytes] = mutate,
) -> Counts:
    """Returns the counts of `count` tries: `file` is damaged, `read` is called, and at the end `file` is restored."""
    content, counts = file.read_bytes(), Counts()
    try:
        for index in range(count):
            file.write_bytes(change(content, random.Random(f"{file.name} {seed} {index}")))
            attempt(counts, f"{file.name}, seed {seed}, try {index}", read, seconds, most_bytes)
    finally:
        file.write_bytes(content)
    TOTAL.update(counts)
    return counts


HANGS_SECONDS = 600  # wall clock; a try that is not over by then is killed


def fuzz_in_worker(files: Sequence[Path], read: Callable[[Path], object], count: int, **options) -> Counts:
    """Returns the counts of `count` tries of each file in a process of its own: signals and hangs are counted too.

    `read` is a function of a module; `options` are those of `fuzz_file`. A new process takes the tries that are left
    when one dies. The files are damaged afterwards where a process died.
    """
    jobs = [(file, index) for file in files for index in range(count)]
    contents, counts, context = (
        {file: file.read_bytes() for file in files},
        Counts(),
        multiprocessing.get_context("spawn"),
    )
    while jobs:
        ours, theirs = context.Pipe(duplex=False)
        worker = context.Process(target=_work, args=(theirs, contents, read, jobs, options))
        worker.start()
        theirs.close()
        while jobs and ours.poll(HANGS_SECONDS):
            try:
                counts += ours.recv()
            except EOFError:
                break
            jobs.pop(0)
        if jobs:
            worker.kill() if worker.is_alive() and not ours.poll(5) else worker.join()
            worker.join()
            counts[f"{jobs[0][0].name}, try {jobs.pop(0)[1]}: the process ended with {worker.exitcode}"] += 1
        worker.join()
        ours.close()
    TOTAL.update(counts)
    return counts


Job = tuple[Path, int]  # a file and the number of a try


def _work(
    results: Connection, contents: dict[Path, bytes], read: Callable[[Path], object], jobs: list[Job], options: dict
) -> None:
    options = dict(options)
    change, seed = options.pop("change", mutate), options.pop("seed", 0)
    for file, index in jobs:
        counts = Counts()
        file.write_bytes(change(contents[file], random.Random(f"{file.name} {seed} {index}")))
        attempt(counts, f"{file.name}, seed {seed}, try {index}", lambda file=file: read(file), **options)
        file.write_bytes(contents[file])
        results.send(counts)
