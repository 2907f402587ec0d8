"""Measures this project on one GPU, in at most nine minutes. Each part has its own time limit.

python scripts/measure_gpu.py PHOTOS --out measured --vgg19 vgg19.safetensors --yardstick torch_srgan.py
python scripts/measure_gpu.py PHOTOS --out trial --updates 5 --tests psnr --sections matrix --batch 2 --crop 32

PHOTOS is a folder of photographs. The second command tries all parts on a CPU, with small settings. The parts are: the
fast tests; scripts/benchmark.py, with --yardstick also the times of a PyTorch program; `srgan-jax plan --measure` of
both updates; the number of kernels in a profile; updates of SRGAN. If a part fails or reaches its limit, this is
recorded, and the next part runs. After each part, the results are written to OUT/measured.json and OUT/measured.md.
Without --vgg19, the loss of SRGAN has only the pixel term and the adversarial term. `--config.KEY=VALUE` applies to the
parts plan, profile and training.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
LIMIT = 540  # seconds of all parts together
PROFILED = 5  # updates
CARD = """import jax, json, platform
first = jax.devices()[0]
print(json.dumps({"device": first.device_kind, "platform": first.platform, "devices": jax.device_count(),
                  "jax": jax.__version__, "python": platform.python_version()}))"""


class Part(NamedTuple):
    """One part of the measurement.

    Attributes:
      limit: seconds after which the part is ended; another --seconds changes it in proportion.
      command: function from the arguments and the facts about the device to the command line of the part.
      read: function from the arguments and the text that the part printed to its results.
    """

    limit: float
    command: Callable[[argparse.Namespace, Mapping[str, Any]], list[str]]
    read: Callable[[argparse.Namespace, str], dict[str, Any]]


# ---------------------------------------------------------------------------------------------- parts


def _tests(args: argparse.Namespace, about: Mapping[str, Any]) -> list[str]:
    chosen = ["-k", args.tests] if args.tests else []
    return [sys.executable, "-m", "pytest", "-n", "0", "-vv", "-m", "not slow and not absent", *chosen]


def _read_tests(args: argparse.Namespace, text: str) -> dict[str, Any]:
    counts = {
        word.lower(): len(re.findall(rf"::.* {word}\b", text)) for word in ("PASSED", "FAILED", "ERROR", "SKIPPED")
    }
    if not sum(counts.values()):
        raise ValueError("no test was counted")
    return counts | {"failures": re.findall(r"^(tests/\S+::.*?) (?:FAILED|ERROR)", text, re.MULTILINE)}


def _benchmark(args: argparse.Namespace, about: Mapping[str, Any]) -> list[str]:
    against = ["--against", "torch", "--yardstick", args.yardstick] if args.yardstick else []
    sizes = ["--batch", str(args.batch), "--crop", str(args.crop)]
    script = str(ROOT / "scripts" / "benchmark.py")
    return [sys.executable, script, "--only", *args.sections, *sizes, *against]


def _read_benchmark(args: argparse.Namespace, text: str) -> dict[str, Any]:
    lines = [line for line in text.splitlines() if re.search(r"\d s +\S+ /s|times as fast", line)]
    return {"lines": lines, "against": "torch" if args.yardstick else "nothing: no --yardstick"}


def _overrides(args: argparse.Namespace) -> list[str]:
    """Returns the overrides of the config that plan, profile and training share."""
    found = [f"--config.data.batch_size={args.batch}", f"--config.data.crop_px={args.crop}"]
    if args.vgg19:
        found.append(f"--config.extractor.weights={args.vgg19}")
    else:
        found += ["--config.stages.gan.losses.perceptual.weight=0", "--config.stages.gan.losses.pixel.weight=1"]
    return found + args.overrides


def _plan(args: argparse.Namespace, about: Mapping[str, Any]) -> list[str]:
    topology = f"{topology_kind(about['device'])}-{about['devices']}"
    command = [sys.executable, "-m", "srgan_jax.cli", "plan", "--config", "srgan", "--topology", topology, "--json"]
    return [*command, "--measure", *_overrides(args)]


def topology_kind(device: str) -> str:
    """Returns the name by which `srgan-jax plan` knows a kind of device. Raises SystemExit for an unknown kind."""
    from srgan_jax.training.planning.hardware import HARDWARE

    found = [name for name, entry in HARDWARE.items() if entry.kind == device]
    if not found:
        raise SystemExit(
            f"srgan-jax plan doesn't know {device}; expected {', '.join(e.kind for e in HARDWARE.values())}"
        )
    return found[0]


def _read_plan(args: argparse.Namespace, text: str) -> dict[str, Any]:
    names = ("kernels", "estimated_seconds_at_least", "limit", "measured_seconds", "memory", "warnings")
    found = json.loads(text[text.index("[\n") : text.rindex("]") + 1])
    return {entry["name"]: {name: entry[name] for name in names} for entry in found}


def _profile(args: argparse.Namespace, about: Mapping[str, Any]) -> list[str]:
    return [sys.executable, __file__, args.photos, "--out", args.out, "--profile", *_overrides(args)]


def _read_lines(args: argparse.Namespace, text: str) -> dict[str, Any]:
    """Returns the union of the JSON objects in the lines that begin with `{`."""
    found: dict[str, Any] = {}
    for line in text.splitlines():
        if line.startswith("{"):
            found |= json.loads(line)
    return found


def _training(args: argparse.Namespace, about: Mapping[str, Any]) -> list[str]:
    first = max(1, args.updates // 10)
    every = max(1, args.updates // 20)
    return [
        sys.executable, "-m", "srgan_jax.main", "--config", "srgan", "--workdir", f"{args.out}/run",
        f"--config.data.folder={args.photos}", f"--config.stages.pretrain.total_steps={first}",
        f"--config.stages.gan.total_steps={args.updates}", f"--config.log_every_steps={every}",
        *_overrides(args),
    ]  # fmt: skip


def _read_training(args: argparse.Namespace, text: str) -> dict[str, Any]:
    path = Path(args.out, "run", "metrics.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    found: dict[str, Any] = {}
    for stage in ("pretrain", "gan"):
        own = [row for row in rows if row["stage"] == stage and "loss" in row]
        if own:
            first, last = own[0], own[-1]
            found[stage] = {"updates": last["step"], "first_loss": first["loss"], "last_loss": last["loss"]}
            steps, seconds = last["step"] - first["step"], last["seconds"] - first["seconds"]
            if steps > 0 and seconds > 0:
                found[stage]["updates_per_second"] = steps / seconds
    return found


PARTS: Mapping[str, Part] = {
    "tests": Part(170, _tests, _read_tests),
    "benchmark": Part(120, _benchmark, _read_benchmark),
    "plan": Part(80, _plan, _read_plan),
    "profile": Part(70, _profile, _read_lines),
    "training": Part(100, _training, _read_training),
}


# ---------------------------------------------------------------------------------------------- profile

OPERATION = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)*")  # name of an operation of XLA, such as dot.3


def count_events(folder: Path) -> dict[str, int]:
    """Returns how many operations of XLA each device ran in a profile: kernels, copies and sets of memory.

    On a GPU, these are the events on its streams. On a CPU, which launches no kernels, they are the events on the
    threads of the host that have the name of an operation.
    """
    import jax

    found: dict[str, int] = {}
    for path in folder.rglob("*.xplane.pb"):
        planes = list(jax.profiler.ProfileData.from_file(str(path)).planes)
        gpus = [plane for plane in planes if plane.name.startswith("/device:GPU")]
        for plane in gpus or [plane for plane in planes if plane.name == "/host:CPU"]:
            lines = [line for line in plane.lines if not gpus or line.name.startswith("Stream")]
            # jaxlib 0.12 aborts if the statistics of an event are read, so the name of the event must suffice.
            names = [bool(gpus) or OPERATION.fullmatch(event.name) for line in lines for event in line.events]
            found[plane.name] = found.get(plane.name, 0) + sum(map(bool, names))
    return found


def profile(overrides: Sequence[str]) -> None:
    """Prints, for each stage of `srgan`, the operations of an update in a profile, and the kernels of its program."""
    import jax

    import benchmark
    from srgan_jax.config.command_line import apply_overrides
    from srgan_jax.config.recipes import load_config
    from srgan_jax.training.planning import hlo

    for name in ("pretrain", "gan"):
        config = load_config("srgan")
        apply_overrides(config, tuple(overrides), [])
        compiled, state, inputs, _ = benchmark.prepare_update(config, name)
        run = benchmark.repeatedly(compiled, state, inputs)
        jax.block_until_ready([run() for _ in range(2)])
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder):
                jax.block_until_ready([run() for _ in range(PROFILED)])
            events = count_events(Path(folder))
        counts = hlo.count(compiled.as_text())
        measured = {device: number / PROFILED for device, number in events.items()}
        line = {"measured_operations_an_update": measured, "kernels_of_the_program": counts.kernels}
        print(json.dumps({name: line}), flush=True)


# ---------------------------------------------------------------------------------------------- running


def run_part(part: Part, args: argparse.Namespace, about: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Returns the status, time and results of a part, and the end of its output if it isn't done."""
    began = time.monotonic()
    log = Path(args.out, "part.log")
    limit = min(part.limit * args.seconds / LIMIT, seconds)
    try:
        command = part.command(args, about)
        with log.open("w") as file:
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True)
            try:
                code = process.wait(timeout=max(1.0, limit))
                status = "done" if code == 0 else f"failed: exit status {code}"
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                status = f"ended at its limit of {limit:.0f} s"
    except (OSError, SystemExit) as error:
        return {"status": f"not started: {error}", "seconds": 0.0, "results": {}}
    text = log.read_text(errors="replace")
    log.unlink()
    try:
        results = part.read(args, text)
    except (ValueError, KeyError) as error:
        results = {}
        status = f"failed: its output can't be read ({error})" if status == "done" else status
    found: dict[str, Any] = {"status": status, "seconds": time.monotonic() - began, "results": results}
    return found if status == "done" else found | {"output": text[-2000:]}


def as_markdown(about: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the results as a page: the GPU, and the status and results of each part."""
    title = f"# Measured on {about['devices']} x {about['device']}"
    lines = [
        title,
        "",
        f"jax {about['jax']}, Python {about['python']}. All times here are measured unless they say otherwise.",
    ]
    lines += ["", "| part | status | seconds |", "| --- | --- | --- |"]
    lines += [f"| {name} | {found['status']} | {found['seconds']:.0f} |" for name, found in parts.items()]
    for name, found in parts.items():
        lines += ["", f"## {name}", "", "```json", json.dumps(found["results"], indent=1), "```"]
    return "\n".join(lines) + "\n"


def _card() -> dict[str, Any]:
    """Returns the facts about the device, from a process of its own, which then frees the device's memory."""
    result = subprocess.run([sys.executable, "-c", CARD], capture_output=True, text=True, cwd=ROOT)
    if result.returncode:
        raise SystemExit(f"JAX finds no device:\n{result.stderr[-1000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the parts; returns 1 if one of them isn't done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", help="folder of photographs to train on")
    parser.add_argument("--out", default="measured", help="folder of the results (default: measured)")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--seconds", type=float, default=LIMIT, help=f"limit of all parts together (default: {LIMIT})")
    parser.add_argument("--updates", type=int, default=2000, help="updates of SRGAN, after a tenth as many of SRResNet")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--crop", type=int, default=96)
    parser.add_argument("--tests", metavar="EXPRESSION", help="only these of the fast tests, as for pytest -k")
    parser.add_argument("--sections", nargs="+", default=["matrix", "updates", "inference"], help="of the benchmark")
    parser.add_argument("--vgg19", metavar="FILE", help="weights of VGG19, from srgan-jax port")
    parser.add_argument("--yardstick", metavar="FILE", help="PyTorch program for benchmark.py --against torch")
    parser.add_argument("--profile", action="store_true", help=argparse.SUPPRESS)  # the part, in a process of its own
    args, args.overrides = parser.parse_known_args(arguments)
    wrong = [entry for entry in args.overrides if not entry.startswith("--config.")]
    if wrong:
        parser.error(f"unknown: {' '.join(wrong)}")
    if args.profile:
        profile(args.overrides)
        return 0
    for name in ("photos", "out", "vgg19", "yardstick"):  # the parts run in the checkout
        value = getattr(args, name)
        setattr(args, name, value and os.path.abspath(value))
    if not os.path.isdir(args.photos):
        parser.error(f"{args.photos}: expected a folder of photographs")
    began, about, parts = time.monotonic(), _card(), {}
    os.makedirs(args.out, exist_ok=True)
    for name in args.parts:
        left = args.seconds - (time.monotonic() - began)
        parts[name] = run_part(PARTS[name], args, about, left) if left > 5 else _no_time()
        print(f"{name}: {parts[name]['status']}, {parts[name]['seconds']:.0f} s", flush=True)
        Path(args.out, "measured.json").write_text(json.dumps({"about": about, "parts": parts}, indent=1))
        Path(args.out, "measured.md").write_text(as_markdown(about, parts))
    return int(any(found["status"] != "done" for found in parts.values()))


def _no_time() -> dict[str, Any]:
    return {"status": "not started: no time left", "seconds": 0.0, "results": {}}


if __name__ == "__main__":
    sys.exit(main())
