"""Benchmark of training and inference on this machine, compared with matrix products and optionally with PyTorch.

python scripts/benchmark.py                              all sections: minutes on a GPU, 25 minutes on two CPU cores
python scripts/benchmark.py --only updates inference     selected sections
python scripts/benchmark.py --against torch --yardstick torch_srgan.py --json results.json

Run it on an otherwise idle machine. Weights are random, because speed doesn't depend on them. The yardstick is a
PyTorch program that prints a JSON object a line: {"what": ..., "seconds": ...}.
"""

import argparse
import functools
import importlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import srgan_jax
from srgan_jax import bulk, defaults, export, images, models, weights
from srgan_jax.config.resolve import resolve
from srgan_jax.data.batch_plan import draw_batch
from srgan_jax.data.memory import build_store
from srgan_jax.data.stream import stream_windows
from srgan_jax.inference import Tiler, choose_tile, from_array, max_area
from srgan_jax.runtime import compilation, devices
from srgan_jax.training import setup
from srgan_jax.training.stage import Stage
from srgan_jax.training.stage_parts import map_stage

Row = dict[str, Any]
RUNS, WARMUP = 7, 2
MAX_SECONDS = 30  # for one line; a slower line has only two runs, of which the first is warm-up


def seconds_of(run: Callable[[], Any], runs: int = RUNS, warmup: int = WARMUP) -> float:
    """Returns the median time of `run`, including the wait for its results."""
    return side_by_side([run], runs, warmup)[0]


def side_by_side(what: list[Callable[[], Any]], runs: int = RUNS, warmup: int = WARMUP) -> list[float]:
    """Returns the median time of each function.

    The functions are called in turn, so that temporary slowdowns of the machine affect all of them.
    """
    times: list[list[float]] = [[] for _ in what]
    for number in range(warmup + runs):
        for run, own in zip(what, times, strict=True):
            began = time.perf_counter()
            jax.block_until_ready(run())
            own.append(time.perf_counter() - began)
        if number and sum(times[0]) > MAX_SECONDS:
            break
    return [statistics.median(own[min(warmup, len(own) - 1) :]) for own in times]


def peak_bytes() -> int:
    """Returns the peak memory so far: of the device, or of this process if the device is the host."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def row(what: str, seconds: float, flops: float | None = None, **more: Any) -> Row:
    """Returns one line of the results."""
    entry = {"what": what, "seconds": seconds, "per_second": 1 / seconds} | more
    return entry | ({"flop": flops, "tflop_per_second": flops / seconds / 1e12} if flops else {})


def matrix_products() -> Iterable[Row]:
    """Measures square matrix products, an estimate of the peak throughput of the device."""
    side = 2048 if jax.default_backend() == "cpu" else 8192
    for dtype in ("float32", "bfloat16"):
        a = jnp.ones((side, side), dtype)
        seconds = seconds_of(functools.partial(jax.jit(jnp.matmul), a, a))
        yield row(f"matrix product {side}, {dtype}", seconds, 2.0 * side**3)


# ---------------------------------------------------------------------------------------------- training


def _config(batch: int, crop: int) -> Any:
    config: Any = defaults.get_config()
    config.data.batch_size, config.data.crop_px = batch, crop
    return config


def _store(stage: Stage, tile_px: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (480, 480, 3), np.uint8) for _ in range(16)]
    sizes = np.array([image.shape[:2] for image in noise])
    return build_store(noise, sizes, tile_px=tile_px, **stage.plan.window)


def _vgg19(folder: str) -> str:
    """Writes random weights of VGG19 to a file; returns its path."""
    module = models.build(models.EXTRACTORS, {"name": "vgg19", "taps": ("conv5_4",), "convention": "caffe"})
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    rng = np.random.default_rng(0)
    draw = lambda shape: rng.normal(0, (2 / max(1, np.prod(shape[:-1]))) ** 0.5, shape).astype(np.float32)  # noqa: E731
    tensors = {f"{layer}/{name}": draw(leaf.shape) for layer, leaves in shapes.items() for name, leaf in leaves.items()}
    path = f"{folder}/vgg19.safetensors"
    weights.save_extractor(path, tensors, {"network": "vgg19", "convention": "caffe"})
    return path


def build_stage(config: Any, name: str) -> Stage:
    """Returns the stage of a run, with random weights of the feature extractor."""
    with tempfile.TemporaryDirectory() as folder:
        config.extractor.weights = _vgg19(folder)
        stages = {stage.name: stage for stage in setup.build(resolve(config))}
    return stages[name]


def prepare_update(config: Any, name: str) -> tuple[Any, Any, Any, dict[str, float]]:
    """Compiles the update of a stage, with its check for non-finite values.

    Returns:
      The compiled update, the state, its other inputs, and the times of tracing and compilation.
    """
    mesh = devices.make_mesh()
    stage = build_stage(config, name)
    state = devices.replicate(jax.jit(stage.init)(None), mesh)
    variables = stage.extractor.variables if stage.extractor else None
    frozen = devices.replicate({"store": _store(stage, config.data.tile_px), "extractor": variables}, mesh)
    indices = np.arange(config.data.batch_size, dtype=np.int32)
    sharded = devices.shard({"indices": indices}, mesh, "jit")
    update: Any = map_stage(stage, resolve(config).guard, mesh, "jit")
    began = time.perf_counter()
    lowered = update.lower(state, frozen, sharded)
    traced = time.perf_counter()
    compiled = lowered.compile()
    took = {"trace_seconds": traced - began, "compile_seconds": time.perf_counter() - traced}
    return compiled, state, (frozen, sharded), took


def repeatedly(compiled: Callable, state: Any, inputs: Any) -> Callable[[], Any]:
    """Returns a function that performs another update at each call."""

    def run():
        nonlocal state
        state, metrics = compiled(state, *inputs)
        return metrics

    return run


def time_update(config: Any, name: str, label: str, runs: int = RUNS) -> Row:
    """Measures the update of a stage."""
    compiled, state, inputs, took = prepare_update(config, name)
    seconds = seconds_of(repeatedly(compiled, state, inputs), runs)
    stats = compiled.memory_analysis()
    flops = (compiled.cost_analysis() or {}).get("flops")
    sizes = {"temporary_bytes": stats.temp_size_in_bytes, "state_bytes": stats.alias_size_in_bytes} if stats else {}
    more = took | sizes
    images_per_second = config.data.batch_size / seconds
    return row(label, seconds, flops, images_per_second=images_per_second, **more)


def updates(batch: int, crop: int) -> Iterable[Row]:
    """Measures updates of the paper's SRResNet and SRGAN-VGG54, including the sampling of crops and LR images."""
    config = _config(batch, crop)
    yield time_update(config, "pretrain", "srresnet_update")
    yield time_update(config, "gan", "srgan_update")


def memory(batch: int, crop: int) -> Iterable[Row]:
    """Measures time and memory of updates with rematerialisation and microbatches."""
    for name, stage in (("srresnet", "pretrain"), ("srgan", "gan")):
        for remat, micro_batches in ((False, 1), (True, 1), (False, 4), (True, 4)):
            config = _config(batch, crop)
            config.remat, config.micro_batches = remat, micro_batches
            yield time_update(config, stage, f"{name}_update, remat={remat}, micro_batches={micro_batches}", 3)


def data(batch: int, crop: int) -> Iterable[Row]:
    """Measures the sampling of batches: alone, inside an update (compared with a constant batch), and streamed."""
    for name in ("bicubic", "photo", "second_order"):
        config = _config(batch, crop)
        config.degradation = ConfigDict({"name": name})
        yield from batches_in_updates(config, name)
    yield from streaming(_config(batch, crop))


def batches_in_updates(config: Any, degradation: str) -> Iterable[Row]:
    """Measures sampling of a batch alone, and SRResNet's update on a constant batch and on a sampled batch."""
    batch = config.data.batch_size
    stage = build_stage(config, "pretrain")
    make = jax.jit(functools.partial(draw_batch, stage.plan))
    seed = jax.random.key_data(jax.random.key(0))
    compiled, state, (frozen, sharded), _ = prepare_update(config, "pretrain")
    given = (seed, jnp.int32(1), np.arange(batch, dtype=np.int32), frozen["store"])
    seconds = seconds_of(lambda: make(*given))
    yield row(f"batch from memory, {degradation}", seconds, images_per_second=batch / seconds)
    update = jax.jit(lambda state, batch: stage.step.function(state, [batch], stage.game), donate_argnums=0)
    constant = repeatedly(update, jax.tree.map(jnp.copy, state), (make(*given),))
    alone, inside = side_by_side([constant, repeatedly(compiled, state, (frozen, sharded))])
    yield row(f"srresnet_update, constant batch ({degradation})", alone)
    yield row(f"srresnet_update, batch made inside ({degradation})", inside, against_constant=inside / alone)


def streaming(config: Any, image_count: int = 48, side: int = 480, batches: int = 30) -> Iterable[Row]:
    """Measures decoding alone, on all cores, and the stream source, which decodes one image for each crop."""
    from srgan_jax.data import builder, datasets

    threads, batch = os.cpu_count(), config.data.batch_size
    rng, indices = np.random.default_rng(0), np.arange(batch, dtype=np.int32)
    with tempfile.TemporaryDirectory() as folder:
        for index in range(image_count):  # smooth images with some noise, as costly to decode as photographs
            coarse = rng.integers(0, 256, (side // 32, side // 32, 3), np.uint8).repeat(32, 0).repeat(32, 1)
            images.write_image(
                Path(folder) / "in" / f"{index}.png", coarse // 2 + rng.integers(0, 9, coarse.shape, np.uint8)
            )
        builder.prepare(f"{folder}/in", f"{folder}/out")
        found = datasets.open_images(f"{folder}/out", scale=config.generator.scale)
        geometry = build_stage(config, "pretrain").plan.window
        stream = functools.partial(
            stream_windows, found, np.asarray(jax.random.key_data(jax.random.key(0))), indices=indices,
            batch_size=batch, threads=threads, **geometry,
        )  # fmt: skip
        next(stream(range(1)))  # compilation
        count, began = batch * batches, time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(lambda index: found[index].shape, (number % image_count for number in range(count))):
                pass
        decoded, began = time.perf_counter() - began, time.perf_counter()
        for _ in stream(range(batches)):
            pass
        streamed = time.perf_counter() - began
    yield row(f"{count} images of {side} px decoded", decoded, images_per_second=count / decoded)
    fraction = {"share_of_decoding": decoded / streamed}
    yield row(f"{count} crops streamed", streamed, images_per_second=count / streamed, **fraction)


# ---------------------------------------------------------------------------------------------- inference


def _generator(name: str) -> Any:
    fields = {"name": name} | ({"norm": "none"} if name == "srresnet" else {})
    module = models.build(models.GENERATORS, fields)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    rng = np.random.default_rng(0)
    return srgan_jax.make_weights(
        jax.tree.map(lambda leaf: rng.normal(0, 0.02, leaf.shape).astype(np.float32), shapes), fields
    )


def inference() -> Iterable[Row]:
    """Measures x4 inference of one image, whole and in tiles, and of a folder of image files of mixed sizes."""
    for name in ("srresnet", "compact"):
        params = _generator(name)
        for side in (128, 512):
            lr = jnp.zeros((side, side, 3))
            run = jax.jit(srgan_jax.upscale)
            flops = (run.lower(params, lr).compile().cost_analysis() or {}).get("flops")
            runs = 3 if side > 128 and jax.default_backend() == "cpu" else RUNS
            seconds = seconds_of(functools.partial(run, params, lr), runs, 1)
            yield row(f"infer_x4 {name} {side}", seconds, flops, output_megapixels_per_second=16e-6 * side**2 / seconds)
        for side in (512, 1024):
            lr = np.zeros((side, side, 3), np.uint8)
            seconds = seconds_of(functools.partial(srgan_jax.upscale_tiled, params, lr), 1, 1)
            rate = 16e-6 * side**2 / seconds
            yield row(f"infer_x4 {name} {side}, tiles", seconds, output_megapixels_per_second=rate)
    yield folder_of_mixed_sizes(_generator("compact"))


def folder_of_mixed_sizes(params: Any) -> Row:
    """Measures 30 PNG files with sides of 64 to 400 pixels, including decoding and encoding."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in"
        sizes = [rng.integers(64, 400, 2) for _ in range(30)]
        for index, size in enumerate(sizes):
            noise = rng.integers(0, 256, (*(size // 8 + 1), 3), np.uint8).repeat(8, 0).repeat(8, 1)
            images.write_image(source / f"{index}.png", noise[: size[0], : size[1]])
        jobs = bulk.find_jobs([source], Path(folder) / "out")
        began = time.perf_counter()
        bulk.upscale_files(jobs, params, bulk.target_size(params.scale), report=lambda line: None)
        seconds = time.perf_counter() - began
    megapixels = sum(int(np.prod(size)) for size in sizes) * 16e-6
    return row("folder of 30 mixed sizes, compact", seconds, output_megapixels_per_second=megapixels / seconds)


def engines() -> Iterable[Row]:
    """Measures inference of the exported ONNX model in other inference engines, if they are installed."""
    for name in ("srresnet", "compact"):
        params = _generator(name)
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "model.onnx")
            export.to_onnx(params, path)
            for engine, runner in ENGINES.items():
                try:
                    run = runner(path)
                except ImportError:
                    continue
                for side in (128, 512):
                    lr = np.zeros((1, 3, side, side), np.float32)
                    seconds = seconds_of(functools.partial(run, lr), RUNS if side == 128 else 3, 1)
                    yield row(f"infer_x4 {name} {side}, {engine}", seconds)


def _onnxruntime(path: str) -> Callable[[np.ndarray], Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return lambda lr: session.run(None, {session.get_inputs()[0].name: lr})


def _openvino(precision: str, path: str) -> Callable[[np.ndarray], Any]:
    openvino: Any = importlib.import_module("openvino")  # not a dependency of the tests

    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    return lambda lr: request.infer([lr])


ENGINES = {
    "ONNX Runtime": _onnxruntime,
    "OpenVINO float32": functools.partial(_openvino, "f32"),
    "OpenVINO bfloat16": functools.partial(_openvino, "bf16"),
}


# ---------------------------------------------------------------------------------------------- start


def start(batch: int, crop: int) -> Iterable[Row]:
    """Measures imports, and the time to the first update with a cold and with a warm compilation cache."""

    sizes = {"batch": batch, "crop": crop}

    def python(code: str) -> tuple[float, str]:
        began = time.perf_counter()
        # On a GPU this process has preallocated most of the memory.
        environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
        return time.perf_counter() - began, done.stdout

    for code in ("import jax", "import srgan_jax; srgan_jax.upscale"):
        yield row(code, statistics.median(python(code)[0] for _ in range(3)))
    for name, stage in (("srresnet", "pretrain"), ("srgan", "gan")):
        with tempfile.TemporaryDirectory() as folder:
            code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import benchmark; "
            code += f"benchmark.first_update({stage!r}, {folder!r}, {sizes!r})"
            starts = [python(code) for _ in range(2)]
        cold, warm = (json.loads(printed.splitlines()[-1]) for _, printed in starts)
        for what, (seconds, _) in zip(("cold", "warm"), starts, strict=True):
            yield row(f"start to first {name} update, {what} cache", seconds)
        yield row(f"compiling {name}, cold cache", cold["all_compile_seconds"])
        times = cold["all_compile_seconds"] / warm["all_compile_seconds"]
        yield row(f"compiling {name}, warm cache", warm["all_compile_seconds"], times_shorter=times)


def first_update(stage: str, folder: str, sizes: dict[str, int]) -> None:
    """Performs one update with the compilation cache in `folder`, and prints the times of tracing and compilation."""
    compiling = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":  # includes reads from the cache
            compiling.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    compilation.enable_compilation_cache(folder)
    compiled, state, inputs, took = prepare_update(_config(**sizes), stage)
    jax.block_until_ready(compiled(state, *inputs))
    print(json.dumps(took | {"all_compile_seconds": sum(compiling)}))


# ---------------------------------------------------------------------------------------------- growth


def growth(whole: bool, batch: int = 16, crop: int = 96) -> Iterable[Row]:
    """Measures the time of an update for growing batch, crop and blocks, and inference for growing images.

    Args:
      whole: also measure the largest sizes, which need hours and much memory on a CPU.
      batch: batch size of the measurements of crop and blocks.
      crop: crop size of the measurements of batch and blocks.
    """
    for size in (1, 4, 16, 64, 256) if whole else (1, 4, 16, 64):
        yield time_update(_config(size, crop), "pretrain", f"srresnet_update batch {size}", 3)
    for size in (48, 96, 144, 192):
        yield time_update(_config(batch, size), "pretrain", f"srresnet_update crop {size}", 3)
    for blocks in (4, 8, 16, 32):
        config = _config(batch, crop)
        config.generator.blocks = blocks
        yield time_update(config, "pretrain", f"srresnet_update blocks {blocks}", 3)
    params = _generator("compact")
    for side in (64, 256, 1024, 4096, 8192) if whole else (64, 256, 1024, 2048):
        lr = np.zeros((side, side, 3), np.uint8)
        tiler = Tiler(params, choose_tile([lr.shape[:2]], 14, max_area(params)))

        def run(tiler=tiler, lr=lr):  # rows are freed, as when files are written
            return [None for _, strips in tiler.upscale([from_array(lr)]) for _ in strips]

        seconds = seconds_of(run, 1, 1)
        yield row(f"infer_x4 compact, tiles, {side}", seconds, output_megapixels_per_second=16e-6 * side**2 / seconds)


# ---------------------------------------------------------------------------------------------- PyTorch


def yardstick(path: str, batch: int, crop: int) -> list[Row]:
    """Returns the measurements of the PyTorch program at `path` on this machine."""
    gpu = jax.default_backend() == "gpu"
    variants = [["--device", "cuda", "--bf16"], ["--device", "cuda", "--bf16", "--compile"]] if gpu else [[]]
    rows = []
    for variant in variants:
        command = [sys.executable, path, "--batch", str(batch), "--crop", str(crop), *variant]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{result.stderr[-2000:]}")
        rows += [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    return rows


def ratios(ours: list[Row], theirs: list[Row]) -> Iterable[str]:
    """Yields a line for each measurement in both lists: PyTorch's best time divided by ours."""
    names = {"srresnet_update": "srresnet_update", "srgan_update": "srgan_update", "infer_x4": "infer_x4 srresnet 128"}
    for what, name in names.items():
        mine = next((entry["seconds"] for entry in ours if entry["what"] == name), None)
        best = min((entry["seconds"] for entry in theirs if entry["what"] == what), default=None)
        if mine and best:
            yield f"{name}: {mine:.4g} s, PyTorch {best:.4g} s: {best / mine:.2f} times as fast as PyTorch's best"


SECTIONS: dict[str, Callable[..., Iterable[Row]]] = {
    "matrix": matrix_products,
    "updates": updates,
    "memory": memory,
    "data": data,
    "inference": inference,
    "engines": engines,
    "start": start,
    "growth": growth,
}


SIZED = ("updates", "memory", "data", "start", "growth")  # sections that take --batch and --crop
SHOWN = {
    "against_constant": "{:.3f} times that with a constant batch",
    "share_of_decoding": "{:.0%} of the throughput of decoding",
    "times_shorter": "{:.1f} times shorter",
    "images_per_second": "{:.4g} images/s",
    "output_megapixels_per_second": "{:.4g} megapixels/s",
}


def _line(entry: Row, peak: float | None) -> str:
    text = f"{entry['what']:40s} {entry['seconds']:10.4g} s {entry['per_second']:10.4g} /s"
    if "tflop_per_second" in entry:
        text += f" {entry['tflop_per_second']:8.3g} TFLOP/s"
        text += f" {entry['tflop_per_second'] / peak:6.1%} of the matrix product" if peak else ""
    for key, text_of in SHOWN.items():
        text += f" ({text_of.format(entry[key])})" if key in entry else ""
    if "temporary_bytes" in entry:
        text += f" (compiled in {entry['compile_seconds']:.1f} s, state {entry['state_bytes'] / 1e9:.3f} GB, "
        text += f"temporary {entry['temporary_bytes'] / 1e9:.3f} GB)"
    return text


def main() -> None:
    """Runs the selected sections and prints their results; with --json also writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(SECTIONS), choices=list(SECTIONS))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--crop", type=int, default=96)
    parser.add_argument("--whole-growth", action="store_true", help="measure the largest sizes on a CPU too: hours")
    parser.add_argument("--json", help="also write the results to this file")
    parser.add_argument("--against", choices=["torch"], help="also run the yardstick, and print ratios of times")
    parser.add_argument("--yardstick", help="the PyTorch program for --against torch")
    args = parser.parse_args()
    if args.against and not (args.yardstick and os.path.isfile(args.yardstick)):
        parser.error("--against torch requires --yardstick FILE, a PyTorch program with the same measurements")
    about = {
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "cores": os.cpu_count(),
        "compute": str(np.dtype(devices.compute_dtype("auto"))),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }
    print(json.dumps(about))
    results, peak = [], None
    for name in args.only:
        options = {"batch": args.batch, "crop": args.crop} if name in SIZED else {}
        if name == "growth":
            options["whole"] = args.whole_growth or jax.default_backend() != "cpu"
        for entry in SECTIONS[name](**options):
            if name == "matrix" and entry["what"].endswith(about["compute"]):
                peak = entry["tflop_per_second"]
            results.append(entry)
            print(_line(entry, peak), flush=True)
    print(f"peak memory: {peak_bytes() / 1e9:.2f} GB")
    theirs = yardstick(args.yardstick, args.batch, args.crop) if args.against else []
    for line in ratios(results, theirs):
        print(line)
    if args.json:
        everything = about | {"results": results, "yardstick": theirs, "peak_bytes": peak_bytes()}
        Path(args.json).write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
