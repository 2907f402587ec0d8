"""Kills one of two `srgan-jax upscale` that write into one folder, at random moments, and counts broken results.

    python scripts/kill_upscale.py --kills 200

Both runs begin at the same time, as forks of this process, which has imported the package but not started JAX; this
only saves the time of the import. After each kill, the other run must end with status 0, and every result must have the
bytes of an undisturbed run. Prints the counts. The exit status is 1 if a result is broken or missing, if the other run
fails, or if temporary files remain.
"""

import argparse
import collections
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from srgan_jax import cli, weights
from srgan_jax.models import GENERATORS, build

IMAGES = 12


def _start(folder: Path, name: str) -> int:
    """Starts a whole run in a fork; returns its process number."""
    if pid := os.fork():
        return pid
    with open(folder / f"{name}.log", "w") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        status = cli.main(["upscale", "in", "-o", "out", "--weights", "w.safetensors", "--jobs", "2"])
    os._exit(status)


def _wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "out").glob("[!.]*")}


def _prepare(folder: Path, seed: int) -> None:
    """Writes images of PNG, JPEG and TIFF and a small network into a folder."""
    (folder / "in").mkdir()
    rng = np.random.default_rng(seed)
    for index in range(IMAGES):
        pixels = rng.integers(0, 256, (24 + index, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "in" / f"{index}.{('png', 'jpg', 'tif')[index % 3]}")
    # In a fork, since this process must not start JAX.
    if not (pid := os.fork()):
        import jax

        fields = {"name": "compact", "blocks": 0, "width": 1, "scale": 2}
        module = build(GENERATORS, fields)
        shapes = jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        weights.save(folder / "w.safetensors", weights.make_weights(zeros, fields))
        os._exit(0)
    if _wait(pid):
        raise SystemExit("no weights")


def main() -> int:
    """Runs the trial; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, counts, begun = random.Random(args.seed), collections.Counter(), time.monotonic()
    longest = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        _prepare(folder, args.seed)
        for _ in range(2):  # the first compiles, the second shows how long a run takes
            for path in (folder / "out").glob("[!.]*"):
                path.unlink()
            start = time.monotonic()
            if _wait(_start(folder, "whole")):
                raise SystemExit((folder / "whole.log").read_text())
            longest = time.monotonic() - start
        expected = _contents(folder)
        assert len(expected) == IMAGES
        while counts["kills"] < args.kills and time.monotonic() - begun < args.seconds:
            for path in (folder / "out").glob("[!.]*"):
                path.unlink()
            killed, other = _start(folder, "killed"), _start(folder, "other")
            time.sleep(rng.uniform(0.2, 1.2) * longest)
            os.kill(killed, signal.SIGKILL)
            counts["kills" if _wait(killed) == -signal.SIGKILL else "ended before the kill"] += 1
            if status := _wait(other):
                counts[f"the other ended with {status}"] += 1
                print((folder / "other.log").read_text())
            found = _contents(folder)
            counts["broken results"] += sum(found[name] != expected.get(name) for name in found)
            counts["missing results"] += len(expected.keys() - found.keys())
        _wait(_start(folder, "last"))
        counts["temporary files after the next run"] = len(list((folder / "out").glob(".partial*")))
    print(f"{longest:.1f} s a run; " + ", ".join(f"{name}: {count}" for name, count in sorted(counts.items())))
    return int(any(counts[name] for name in counts if name not in ("kills", "ended before the kill")))


if __name__ == "__main__":
    sys.exit(main())
