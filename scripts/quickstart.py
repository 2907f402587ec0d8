"""The two ends of `scripts/quickstart.sh`: photographs to train on before, a table and a picture after."""

import argparse
import shutil
from pathlib import Path

import numpy as np

PHOTOS = Path("data/quickstart_photos")
TRAIN = (
    "astronaut.png", "brick.png", "camera.png", "coffee.png", "coins.png", "grass.png", "gravel.png",
    "motorcycle_left.png", "motorcycle_right.png", "rocket.jpg",
)  # fmt: skip
HELD_OUT = "chelsea.png"


def copy_photos() -> None:
    """Lays the photographs that ship inside scikit-image into folders."""
    import skimage.data

    shipped = Path(skimage.data.__file__).parent
    for part, names in (("train", TRAIN), ("held_out", (HELD_OUT,))):
        (PHOTOS / part).mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copyfile(shipped / name, PHOTOS / part / name)


def report(run: Path) -> None:
    """Upscales the held-out photograph; prints the scores and where the picture lies."""
    import srgan_jax
    from srgan_jax import evaluate, images

    generators = {"SRResNet": run / "pretrain.safetensors", "SRGAN": run / "gan.safetensors"}
    scale = srgan_jax.load(run).scale
    pair = evaluate.read_pairs(PHOTOS / "held_out", scale)[0]
    results = {"bicubic": evaluate.bicubic(pair.lr, scale)}
    for name, path in generators.items():
        results[name] = np.asarray(srgan_jax.upscale(srgan_jax.load(path), pair.lr))
    print(f"\n{pair.name}, x{scale}, Y channel, {scale} px border left out, LR by MATLAB's bicubic\n")
    print(f"{'':10}{'Y-PSNR':>10}{'gain':>10}")
    baseline = None
    for name, result in results.items():
        value = evaluate.score([pair], [result], ("psnr_y",))[0]["psnr_y"]
        baseline = value if baseline is None else baseline
        print(f"{name:10}{value:7.2f} dB{value - baseline:+7.2f} dB")
    picture = run / "side_by_side.png"
    images.write_image(picture, images.side_by_side([*results.values(), pair.hr]))
    print(f"\n{' | '.join(results)} | original: {picture}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", action="store_true", help="lay out the photographs")
    parser.add_argument("--report", type=Path, metavar="RUN", help="table and picture of a run")
    args = parser.parse_args()
    if args.photos:
        copy_photos()
    if args.report:
        report(args.report)
