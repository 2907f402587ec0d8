"""Trains every recipe at toy size with two revisions of this project, and compares all numbers.

    python scripts/compare_numbers.py 1a2b3c4                  # the checkout must equal that revision bit for bit
    python scripts/compare_numbers.py 1a2b3c4 --tolerance 1e-6 # accept relative differences up to 1e-6

Each recipe runs for 3 updates a stage, four of them for 20. The script compares all rows of `metrics.jsonl` and all
tensors of the weights files that each stage writes. A difference is relative to the largest absolute value of the
tensor. It takes about 6 minutes on two cores; the two revisions run in parallel.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).parents[1]
LONG = ("srresnet", "srgan", "esrgan", "patchgan_lsgan")  # for 20 updates, the others for 3
VARIANTS = {"srgan_mse": ("options", "cadence", "microbatches")}  # recipe: its additional variants, see TOY
TIMEOUT_S = 900

# A config file that reduces the recipe to toy size. Both revisions read it, so it sets few keys.
TOY = """
import importlib.util

def get_config():
    spec = importlib.util.spec_from_file_location("recipe", {recipe!r})
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    config.data.dataset = "pairs" if config.data.lr_feature else "photos"
    config.data.batch_size = 4
    config.data.crop_px = 32
    config.data.resize_px = min(config.data.resize_px, 32)
    config.generator.blocks = 1
    config.generator.width = 8
    config.discriminator.width = 4
    if "dense" in config.discriminator:
        config.discriminator.dense = 8
    for name in ("growth", "upsampling_width"):
        if config.generator.get(name):
            config.generator[name] = 8
    config.extractor.weights = config.extractor.name + ".safetensors"
    for stage in config.stage_names:
        config.stages[stage].total_steps = {updates}
        config.stages[stage].warmup_steps = min(config.stages[stage].warmup_steps, 1)
    config.validation.folder = "" if config.validation.hold_out else "held_out"
    config.validation.hold_out = min(config.validation.hold_out, 1)
    if not config.generator_of_init_from:
        config.init_from = ""
    config.sample_pictures = 0
    config.log_every_steps = 1
    config.compilation_cache = ""
    if {variant!r} == "options":
        gan = config.stages.gan
        gan.historical_averaging = 0.01
        gan.discriminator_updates, gan.fresh_batch = 2, True
        if "losses" in gan:
            gan.step = "gan_several_updates"
            gan.discriminator_losses.d_loss.options.label_smoothing = 0.1
            gan.discriminator_losses.gradient_penalty.weight = 1.0
        else:
            gan.label_smoothing, gan.gradient_penalty = 0.1, 1.0
        gan.clip_norm, gan.weight_decay = 0.05, 0.1
        config.discriminator.norm = "none"
        config.discriminator.minibatch_kernels, config.discriminator.dropout = 2, 0.2
    if {variant!r} == "cadence":
        config.stages.gan.discriminator_every = 2
    if {variant!r} == "microbatches":
        config.micro_batches, config.remat = 2, True
        config.stages.pretrain.optimizer = "muon"
        config.data.source = "stream"
    return config
"""


def make_data(folder: Path) -> None:
    """Writes photographs, pairs, a validation folder, and random weights of the feature extractors to `folder`."""
    import skimage.data
    from PIL import Image, ImageFilter

    photo = skimage.data.chelsea()
    sizes = {"photos": [(96, 150), (120, 96), (64, 64), (200, 300), (99, 101)], "held_out": [(70, 90), (64, 64)]}
    for name, shapes in sizes.items():
        (folder / f"{name}_files").mkdir()
        for index, (height, width) in enumerate(shapes):
            Image.fromarray(photo[index : index + height, :width]).save(folder / f"{name}_files" / f"{index}.png")
    (folder / "held_out_files").rename(folder / "held_out")
    for side in ("hr", "lr"):
        (folder / "pairs_files" / side).mkdir(parents=True)
    for index in range(4):
        image = Image.fromarray(photo[10 * index : 10 * index + 64, :72])
        image.save(folder / "pairs_files" / "hr" / f"{index}.png")
        image.filter(ImageFilter.GaussianBlur(2)).save(folder / "pairs_files" / "lr" / f"{index}.png")
    _write_extractors(folder)


def _write_extractors(folder: Path) -> None:
    rng, channels, tensors = np.random.default_rng(0), 3, {}
    for block, count in enumerate((2, 2, 4, 4, 4), start=1):
        for index in range(1, count + 1):
            features = 64 * min(2 ** (block - 1), 8)
            name, shape = f"block{block}_conv{index}", (3, 3, channels, features)
            tensors[f"{name}/kernel"] = rng.normal(0, (9 * channels) ** -0.5, shape).astype(np.float16)
            tensors[f"{name}/bias"] = rng.normal(0, 0.1, features).astype(np.float16)
            channels = features
    header = {"format": "srgan_jax extractor 1", "network": "vgg19", "convention": "caffe"}
    save_file(tensors, folder / "vgg19.safetensors", header)
    shapes = {
        "conv1_conv/kernel": (7, 7, 3, 64), "conv1_conv/bias": (64,), "conv2_block1_preact_bn_scale": (64,),
        "conv2_block1_preact_bn_offset": (64,), "conv2_block1_1_conv/kernel": (1, 1, 64, 64),
        "conv2_block1_1_conv/bias": (64,),
    }  # fmt: skip
    tensors = {n: rng.normal(0, np.prod(s[:-1] or s) ** -0.5, s).astype(np.float32) for n, s in shapes.items()}
    header = {"format": "srgan_jax extractor 1", "network": "resnet152v2", "convention": "signed"}
    save_file(tensors, folder / "resnet152v2.safetensors", header)


def _run(checkout: Path, folder: Path, *arguments: str) -> None:
    flags = "--xla_backend_optimization_level=0"
    environment = os.environ | {
        "PYTHONPATH": str(checkout), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags,
        "JAX_COMPILATION_CACHE_DIR": str(folder.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }  # fmt: skip
    result = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    if result.returncode:
        raise RuntimeError(
            f"{checkout}: {' '.join(arguments)} failed with exit status {result.returncode}:\n{result.stderr[-3000:]}"
        )


def record(checkout: Path, folder: Path, recipes: list[str]) -> None:
    """Trains the recipes of `checkout`, with their runs in `folder/runs`."""
    folder.mkdir()
    make_data(folder)
    for name in ("photos", "pairs"):
        files = str(folder / f"{name}_files")
        _run(checkout, folder, "-m", "srgan_jax.cli", "prepare", files, "--out", name, "--min-side", "32")
    for recipe in sorted((checkout / "configs").glob("[!_]*.py")):
        if recipes and recipe.stem not in recipes:
            continue
        for variant in ("", *VARIANTS.get(recipe.stem, ())):
            name = f"{recipe.stem} {variant}".strip().replace(" ", "_")
            toy = folder / f"{name}.py"
            toy.write_text(TOY.format(recipe=str(recipe), updates=20 if name in LONG else 3, variant=variant))
            _run(checkout, folder, "-m", "srgan_jax.main", "--config", str(toy), "--workdir", f"runs/{name}")


def differences(first: Path, second: Path) -> dict[str, float]:
    """Returns the largest relative difference between two runs for each logged value (over all updates) and tensor."""
    found = {}
    rows = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (first, second)]
    keys = [[(row["stage"], row["step"], tuple(sorted(row.keys() - {"seconds"}))) for row in side] for side in rows]
    if [key[:2] for key in keys[0]] != [key[:2] for key in keys[1]]:
        raise RuntimeError(f"{first.name}: the rows of metrics.jsonl differ: {set(keys[0]) ^ set(keys[1])}")
    for one, other in zip(*rows, strict=True):
        if lost := one.keys() - other.keys():  # additional metrics in `second` are allowed
            raise RuntimeError(f"{first.name}: {', '.join(sorted(lost))} are no longer logged")
        for key in one.keys() - {"stage", "step", "seconds"}:
            # Accuracies are fractions of few samples: a rounding difference at the threshold changes a whole sample.
            found[f"metric {key}"] = max(found.get(f"metric {key}", 0.0), _relative(one[key], other[key]))
    files = [sorted(path.name for path in run.glob("*.safetensors")) for run in (first, second)]
    if files[0] != files[1]:
        raise RuntimeError(f"{first.name}: the weights files differ: {files[0]} and {files[1]}")
    for name in files[0]:
        tensors = [load_file(run / name) for run in (first, second)]
        if tensors[0].keys() != tensors[1].keys():
            raise RuntimeError(f"{first.name}/{name}: the tensors differ: {set(tensors[0]) ^ set(tensors[1])}")
        for key in tensors[0]:
            found[f"{name} {key}"] = _relative(tensors[0][key], tensors[1][key])
    return found


def _relative(one: object, other: object) -> float:
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if one.shape != other.shape:
        return np.inf
    difference = np.abs(one - other).max()
    return float(difference / max(np.abs(one).max(), 1e-30)) if difference else 0.0


def main() -> int:
    """Runs the comparison and returns the exit status: 0 if all numbers agree, otherwise 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", help="a commit of this repository")
    parser.add_argument("--tolerance", type=float, default=0.0, help="largest relative difference (default: 0)")
    parser.add_argument("--recipes", nargs="+", default=[], metavar="NAME", help="compare only these recipes")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the runs of both revisions in this folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        before = folder / "checkout_before"
        subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "--detach", "--force", str(before), args.revision],
                       check=True, capture_output=True)  # fmt: skip
        try:
            with ThreadPoolExecutor(2) as pool:
                folders = {folder / "before": before, folder / "after": ROOT}
                sides = [pool.submit(record, checkout, out, args.recipes) for out, checkout in folders.items()]
                for side in sides:
                    side.result()
        finally:
            subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(before)], check=True)
        return report(folder / "before" / "runs", folder / "after" / "runs", args.tolerance)


def report(before: Path, after: Path, tolerance: float) -> int:
    """Prints a line for each recipe; returns 0 if no difference exceeds the tolerance, otherwise 1."""
    runs = sorted(path.name for path in before.iterdir())
    if missing := set(runs) ^ {path.name for path in after.iterdir()}:
        raise RuntimeError(f"only one of the revisions has the runs {', '.join(sorted(missing))}")
    status = 0
    for name in runs:
        found = differences(before / name, after / name)
        key, largest = max(found.items(), key=lambda item: item[1])
        failed = largest > tolerance
        status |= failed
        text = "equal bits" if not largest else f"largest relative difference {largest:.2e} ({key})"
        print(f"{'FAILED ' if failed else ''}{name}: {len(found)} metrics and tensors, {text}")
    return status


if __name__ == "__main__":
    sys.exit(main())
