"""`srgan-jax quickstart`: trains a small SRResNet and SRGAN on photographs of scikit-image, and prints a table."""

import argparse
import shutil
from pathlib import Path

from srgan_jax.runtime import extras

TRAIN = (
    "astronaut.png", "brick.png", "camera.png", "coffee.png", "coins.png", "grass.png", "gravel.png",
    "motorcycle_left.png", "motorcycle_right.png", "rocket.jpg",
)  # fmt: skip
VALIDATION = "chelsea.png"
COLUMNS = {"PSNR (Y)": "psnr_y", "LR-PSNR": "lr_psnr", "fine texture": "power_375"}  # title to metric
EXPLANATION = """
LR-PSNR: PSNR between LR and the result, shrunk to the size of LR. Fine texture: power of the highest frequencies
relative to the original's; 0 dB is as much as in the original. A GAN has more texture and a lower PSNR: see
docs/evaluation.md."""
PHOTOS, DATASET = Path("data/quickstart_photos"), Path("data/quickstart")


def copy_photos() -> None:
    """Copies photographs from the scikit-image package to `PHOTOS`.

    Raises:
      UserError: scikit-image is not installed.
    """
    extras.require("quickstart", "srgan-jax quickstart")
    import skimage.data

    shipped = Path(skimage.data.__file__).parent
    for split, names in (("train", TRAIN), ("held_out", (VALIDATION,))):
        (PHOTOS / split).mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copyfile(shipped / name, PHOTOS / split / name)


def choose_recipe() -> str:
    """Returns "quickstart_vgg19" if the file of VGG19's weights exists, else "quickstart"."""
    from srgan_jax.weights import networks

    return "quickstart_vgg19" if networks.network_path("vgg19").is_file() else "quickstart"


def train(recipe: str, overrides: list[str], folder: Path) -> None:
    """Prepares the photographs and trains the recipe in `folder`, or resumes its run."""
    extras.require("train", "training")
    from srgan_jax.config.command_line import apply_overrides
    from srgan_jax.config.recipes import load_config
    from srgan_jax.config.resolve import resolve
    from srgan_jax.data import builder
    from srgan_jax.runtime import compilation, messages
    from srgan_jax.training.loop import train_and_evaluate

    config = load_config(recipe)
    apply_overrides(config, overrides)
    run = resolve(config)
    compilation.enable_compilation_cache(run.compilation_cache, messages.report)
    if not DATASET.exists():
        messages.report(f"preparing {PHOTOS / 'train'}")
        for name, reason in builder.prepare(str(PHOTOS / "train"), str(DATASET)).items():
            messages.report(f"skipped {name}: {reason}")
    train_and_evaluate(run, folder)


def print_table(folder: Path) -> None:
    """Prints the scores of bicubic, SRResNet and SRGAN on the validation photograph, and writes a contact sheet."""
    import numpy as np

    from srgan_jax import images, inference, weights
    from srgan_jax.evaluation.pairs import read_pairs
    from srgan_jax.evaluation.scoring import bicubic, of_one_image, score

    generators = {"SRResNet": folder / "pretrain.safetensors", "SRGAN": folder / "gan.safetensors"}
    scale = weights.load(folder).scale
    pair = read_pairs(PHOTOS / "held_out", scale)[0]
    results = {"bicubic": bicubic(pair.lr, scale)}
    for name, path in generators.items():
        results[name] = np.asarray(inference.upscale(weights.load(path), pair.lr))
    print(f"\n{pair.name}, x{scale}, LR by MATLAB's bicubic\n\n{'':10}" + "".join(f"{title:>14}" for title in COLUMNS))
    for name, result in results.items():
        scores = of_one_image(score([pair], [result], tuple(COLUMNS.values()))[0])
        print(f"{name:10}" + "".join(f"{scores[metric]:11.2f} dB" for metric in COLUMNS.values()))
    print(EXPLANATION)
    written = folder / "side_by_side.png"
    images.write_image(written, images.side_by_side([*results.values(), pair.hr]))
    print(f"\n{' | '.join(results)} | original: {written}")


def quickstart(args: argparse.Namespace) -> int:
    """Copies the photographs, trains, and prints the table of scores."""
    copy_photos()
    if args.photos_only:
        return 0
    recipe = choose_recipe()
    folder = Path("runs", recipe)
    train(recipe, args.overrides, folder)
    print_table(folder)
    return 0


def add_quickstart(commands) -> None:
    """Adds `quickstart` to the commands of the parser."""
    sub = commands.add_parser(
        "quickstart",
        help="train a small SRResNet and SRGAN on photographs of scikit-image (5 minutes on 2 cores)",
        description=f"Writes to {PHOTOS}, {DATASET} and runs/quickstart in the current folder. A second call resumes "
        "the run. If the file of VGG19's weights exists, recipe and run are quickstart_vgg19.",
    )
    sub.add_argument("overrides", nargs="*", metavar="--config.KEY=VALUE", help="config keys to change")
    sub.add_argument("--photos-only", action="store_true", help="only copy the photographs")
    sub.set_defaults(run=quickstart)
