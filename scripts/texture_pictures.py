"""Draws the figure of docs/evaluation.md: a photograph, and versions of it with one fault each. Prints their scores.

SRGAN_JAX_WEIGHTS=weights python scripts/texture_pictures.py -o docs/_static/texture.jpg

The photograph is `chelsea` of scikit-image (CC0). Needs `srgan-jax port vgg19 FILE` and the extra `quickstart`.
"""

import argparse

import numpy as np
import skimage.data
from PIL import Image, ImageDraw

import srgan_jax
from srgan_jax.evaluation import scoring
from srgan_jax.evaluation.metrics import GROUPS
from srgan_jax.evaluation.pairs import make_pair
from srgan_jax.ops import color, resize

CROP = (slice(40, 168), slice(100, 292))  # rows and columns that are shown: fur, an eye and a blurred background


def faults(hr: np.ndarray) -> dict[str, np.ndarray]:
    """Returns HR and versions of it with one fault each, `[H, W, 3]` uint8, by name."""
    rng = np.random.default_rng(0)
    height, width = hr.shape[:2]
    lr = np.asarray(color.to_uint8(resize.downscale(color.from_integers(hr), 4)))
    bicubic = scoring.bicubic(lr, 4).astype(float)
    detail = hr - bicubic  # what LR doesn't determine
    noise = rng.normal(0, detail.std(), (height, width, 1))
    rows, columns = np.indices((height, width)) % 4
    lattice = np.where((rows == 0) & (columns == 0), 24.0, 0.0)[..., None]
    signs = np.where((np.indices((height, width)) // 32).sum(axis=0) % 2, 6.0, -6.0)
    mesh = (signs * np.where((rows < 2) == (columns < 2), 1.0, -1.0))[..., None]
    changed = {
        "HR": hr,
        "bicubic": bicubic,
        "noise everywhere": bicubic + noise,
        "half of the detail": bicubic + 0.5 * detail,
        "detail of another place": bicubic + np.roll(detail, (height // 2, width // 2), (0, 1)),
        "lattice of 4 px": hr + lattice - lattice.mean(),
        "mesh of changing sign": hr + mesh,
        "colours shifted": hr + np.array([8.0, -4.0, 0.0]),
    }
    return {name: np.clip(np.round(image), 0, 255).astype(np.uint8) for name, image in changed.items()}


def contact_sheet(pictures: dict[str, np.ndarray], columns: int = 4) -> Image.Image:
    """Returns crops of the images at twice their size, with the names above them."""
    height, width = (2 * (part.stop - part.start) for part in CROP)
    label = 22
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (width + 4), rows * (height + label)), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (name, picture) in enumerate(pictures.items()):
        x, y = index % columns * (width + 4), index // columns * (height + label)
        draw.text((x + 2, y + 3), name, fill="black", font_size=15)
        sheet.paste(Image.fromarray(picture[CROP]).resize((width, height), Image.Resampling.NEAREST), (x, y + label))
    return sheet


def main() -> None:
    """Writes the figure and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", required=True, help="file of the figure, .png or .jpg")
    out = parser.parse_args().out
    photo = skimage.data.chelsea()
    hr = photo[: photo.shape[0] // 4 * 4, : photo.shape[1] // 4 * 4]
    pair, pictures = make_pair("chelsea", photo, 4), faults(hr)
    names = (*GROUPS["texture"], "mesh")
    print(f"| | {' | '.join(names)} |\n|{' --- |' * (len(names) + 1)}")
    for label, picture in pictures.items():
        scores = scoring.of_one_image(scoring.score([pair], [picture], names)[0])
        print(f"| {label} | {' | '.join(f'{round(scores[name], 3) + 0.0:.3g}' for name in names)} |")
    srgan_jax.write_image(out, np.asarray(contact_sheet(pictures)))


if __name__ == "__main__":
    main()
