"""Exports the generator of a finished run for shipping with the package: float16, with a model card in the header.

python scripts/ship.py runs/compact compact_x4 --validation held_out --hardware "2 cores of an AMD EPYC, no GPU"

The scores in the card are those of the written file on the validation images, which the run must not have trained on.
LR is computed by bicubic and by the degradation of the run. The script fails if the file is too large, or if its PSNR
differs from that of the float32 weights by more than 0.005 dB.
"""

import argparse
import functools
import json
import re
import sys
from pathlib import Path

import srgan_jax
from srgan_jax import cli, inference, weights
from srgan_jax.degradations import DEGRADATIONS
from srgan_jax.evaluation import scoring
from srgan_jax.evaluation.pairs import Pair, degrade_pairs, read_pairs
from srgan_jax.runtime.errors import UserError, lookup
from srgan_jax.weights import pretrained

MAX_BYTES, MAX_LOSS_DB = 4_000_000, 0.005
CARDS = {
    "compact_x4": {
        "purpose": "clean images downscaled by bicubic, as in the test sets; fast on CPUs",
        "good_at": "lossless images without noise; exact edges",
        "bad_at": "JPEG artefacts and noise, which it sharpens; texture that LR doesn't contain stays smooth",
    },
    "photo_x4": {
        "purpose": "everyday photographs: JPEG files with slight blur and noise",
        "good_at": "JPEG of quality 40 to 95, noise up to 5 of 255, blur up to 1.5 px, any downscaling kernel",
        "bad_at": "clean images, which it leaves softer than compact_x4 does; texture that LR doesn't contain stays "
        "smooth (trained without a discriminator); stronger JPEG, noise or blur than that; small text and faces",
    },
    "srgan_x4": {
        "purpose": "texture, in clean images downscaled by bicubic: a GAN; --strength blends it with srgan_psnr_x4",
        "good_at": "fur, grass, rock, water, foliage",
        "bad_at": "fine regular drawing, small text and small faces, in which it invents; JPEG artefacts and noise",
        "partner": "srgan_psnr_x4",
        "data": "222 photographs: 132 wallpapers of elementary, deepin, Pop!_OS and Ubuntu MATE and 90 of General-100; "
        "20 more of both for validation",
        "data_licences": "General-100: published for research; wallpapers: Unsplash, CC0, CC-BY, CC-BY-SA",
    },
    "srgan_psnr_x4": {
        "purpose": "the PSNR partner of srgan_x4, from which it was trained: no invented texture",
        "good_at": "lossless images without noise",
        "bad_at": "JPEG artefacts and noise; texture that LR doesn't contain stays smooth",
    },
}
DATA = {
    "data": "621 photographs: 399 of BSDS500 (train and test without 302003), 90 of General-100, 132 wallpapers of "
    "elementary, deepin, Pop!_OS and Ubuntu MATE; 20 more of the latter two for validation",
    "data_licences": "BSDS500, General-100: published for research; wallpapers: Unsplash, CC0, CC-BY, CC-BY-SA",
    "licence": "Apache-2.0 as far as this project can grant it; subject to the licences of the training images",
}


def wall_seconds(rows: list[dict]) -> float:
    """Returns the duration of a run, summed over its resumes, each of which starts counting at 0."""
    times = [row["seconds"] for row in rows]
    return sum(t for t, after in zip(times, [*times[1:], 0.0], strict=True) if after < t)


def command_of(text: str) -> str:
    """Returns the command of a run without the folders of its file names."""
    words = [re.sub(r"(^|=)/\S*/", r"\1", word) for word in text.split()[1:]]
    return " ".join(["python -m srgan_jax.main", *(f'"{word}"' if "'" in word else word for word in words)])


def degradation_of(run: Path) -> dict:
    """Returns name and options of the degradation of a run; old configs have the key "data.degradation" instead."""
    config = json.loads((run / "config.json").read_text())
    return config.get("degradation") or {"name": config["data"]["degradation"]}


def started_from(name: str) -> str:
    """Returns the initial weights of a run; for a shipped generator also the revision, as other ones have its name."""
    if name not in pretrained.names():
        return Path(name).name
    card = weights.read_provenance(name)
    return f"{name} of revision {card['revision'][:7]}, {card['updates']} updates"


def facts(run: Path) -> dict[str, str]:
    """Returns the facts about a run for the model card, from its folder.

    Raises:
      UserError: it is not a run folder.
    """
    try:
        config, versions = (json.loads((run / name).read_text()) for name in ("config.json", "versions.json"))
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    except FileNotFoundError as error:
        raise UserError(f"{run} is not a run folder: no {Path(error.filename).name}") from None
    found = {
        "updates": f"{int(weights.read_header(run)['steps']):,}",
        "batch": f"{config['data']['batch_size']} crops of {config['data']['crop_px']} px",
        "degradation": degradation_of(run)["name"],
        "command": command_of(versions["command"]),
        "wall_time": f"{wall_seconds(rows) / 3600:.1f} hours",
        "revision": versions["git"],
        "packages": f"jax {versions['jax']}, flax {versions['flax']}",
    }
    start = config.get("init_from")
    return found | ({"started_from": started_from(start)} if start else {})


def validation_sets(folder: str, scale: int, degradation: dict) -> dict[str, list[Pair]]:
    """Returns the validation pairs with LR by bicubic and, if it differs, by the degradation of the run."""
    sets = {"bicubic": read_pairs(folder, scale)}
    options = dict(degradation)
    name = options.pop("name")
    if name != "bicubic":
        degrade = functools.partial(lookup(DEGRADATIONS, name, "degradation").degrade, scale=scale, **options)
        sets[name] = degrade_pairs(sets["bicubic"], degrade)
    return sets


def scores(params: weights.Weights, pairs: list[Pair]) -> dict[str, float]:
    """Returns mean PSNR and SSIM of a generator on `pairs`."""
    results = scoring.upscale_all(functools.partial(inference.upscale_canvas, params), pairs)
    return scoring.mean(scoring.score(pairs, results))


def ship(
    run: Path, name: str, folder: str, hardware: str, out: Path, *, max_bytes=MAX_BYTES, max_loss_db=MAX_LOSS_DB
) -> Path:
    """Writes the file and returns its path.

    Raises:
      UserError: no such run or card, or the file has more than `max_bytes`, or float16 changes its PSNR by more than
        `max_loss_db`.
    """
    card = DATA | lookup(CARDS, name, "shipped generator") | facts(run) | {"hardware": hardware}
    trained = srgan_jax.load(run, fold=False)
    path, written = out / f"{name}.safetensors", out / f".{name}.safetensors"
    try:
        srgan_jax.save(written, trained, dtype="float16")
        halved = srgan_jax.load(written, fold=False)
        for lr, pairs in validation_sets(folder, trained.scale, degradation_of(run)).items():
            before, after = scores(trained, pairs), scores(halved, pairs)
            baseline = scoring.mean(scoring.score(pairs, [scoring.bicubic(p.lr, trained.scale) for p in pairs]))
            if abs(before["psnr_y"] - after["psnr_y"]) > max_loss_db:
                raise UserError(
                    f"LR by {lr}: {before['psnr_y']:.4f} dB, in float16 {after['psnr_y']:.4f} dB; expected a "
                    f"difference of at most {max_loss_db} dB"
                )
            card[f"validation_{lr}"] = (
                f"{after['psnr_y']:.3f} dB, SSIM {after['ssim_y']:.4f}; bicubic {baseline['psnr_y']:.3f} dB, "
                f"{baseline['ssim_y']:.4f} (Y, {len(pairs)} validation photographs, LR by {lr})"
            )
        srgan_jax.save(written, trained, card, dtype="float16")
        if written.stat().st_size > max_bytes:
            raise UserError(f"{name} has {written.stat().st_size:,} bytes, more than {max_bytes:,}")
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)
    return path


def main(argv: list[str] | None = None) -> int:
    """Writes the file and returns the exit status: 0 for success, 2 for an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("name", help=" or ".join(CARDS))
    parser.add_argument("--validation", required=True, help="folder of HR images that the run didn't train on")
    parser.add_argument("--hardware", required=True, help="description of the hardware that it was trained on")
    parser.add_argument("--out", type=Path, default=pretrained.FOLDER)
    args = parser.parse_args(argv)
    try:
        path = ship(args.run, args.name, args.validation, args.hardware, args.out)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{path}: {path.stat().st_size:,} bytes")
    return cli.main(["info", str(path)])


if __name__ == "__main__":
    sys.exit(main())
