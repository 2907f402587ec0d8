"""The folder of a generator for the Hugging Face Hub: weights, model card, and an image before and after."""

import fnmatch
import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from srgan_jax import images, inference, weights
from srgan_jax.ops import color, resize
from srgan_jax.runtime import atomic
from srgan_jax.runtime.terminal import one_line
from srgan_jax.weights.hub import GENERATOR, PREFIX
from srgan_jax.weights.safetensors_io import sha256_of

PARTNER, PICTURE, CARD = "partner.safetensors", "before_after.png", "README.md"
PICTURE_PX = 128  # largest side of the crop that is upscaled
LICENCES = (  # identifiers of the Hub; a licence in other words is "other", and stands in the card
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "unlicense",
)  # fmt: skip
FOLDERS = re.compile(r"(^|[\s='\"])/\S*/")  # of paths on the machine that trained
SECTIONS = {  # title -> keys of the header and what they are called; "val*": all that begin so
    "Scores": {"val*": ""},
    "Limits": {"good_at": "good at", "bad_at": "bad at"},
    "Data": {"data": "images", "dataset": "data set", "data_licences": "licences", "degradation": "LR is made by"},
}
NOT_STATED = {
    "Scores": "The file states no scores.",
    "Limits": "The file states none. Detail that the small image lacks is not restored but, at best, made up.",
    "Data": "The file doesn't state what it was trained on.",
}
TEMPLATE = """---
{licence}library_name: srgan-jax
pipeline_tag: image-to-image
tags:
- super-resolution
- image-super-resolution
- jax
- flax
---

# {title}

{purpose}Upscales images by {scale}: a generator `{architecture}` with {count:,} parameters.

{picture}
## Use

```bash
pip install "srgan-jax[hub]"
srgan-jax upscale photo.jpg --weights {address}
```

```python
import srgan_jax

sr = srgan_jax.upscale(srgan_jax.load("{address}"), lr)  # [H, W, 3], uint8 or float in [0, 1]
```

{sections}
## Licence

{licence_text}

## File

`{file}`, SHA-256 `{sha256}`.

{rest}
"""


def without_folders(header: Mapping[str, str]) -> dict[str, str]:
    """Returns a header whose absolute paths are shortened to their last name: folders are nobody else's business."""
    return {key: FOLDERS.sub(r"\1", value) for key, value in header.items()}


def write_folder(
    folder: Path, params: weights.Weights, header: Mapping[str, str], repository: str,
    partner: weights.Weights | None = None, photo: np.ndarray | None = None,
) -> list[Path]:  # fmt: skip
    """Writes the files of a repository: weights, their PSNR partner, the image, and the card. Returns their paths.

    Args:
      folder: created if missing.
      params: the generator, batch normalisation not folded.
      header: its provenance.
      repository: "owner/name", for the commands in the card.
      partner: written beside it where the generator has one, so that `--strength` finds it.
      photo: `[H, W, 3]` uint8, whose centre is upscaled for the image; None for none.
    """
    header = without_folders(header)
    if partner:
        _save(folder / PARTNER, partner, {"purpose": f"the PSNR partner of {repository}"})
        header["partner"] = PARTNER
    _save(folder / GENERATOR, params, header)
    if photo is not None:
        images.write_image(folder / PICTURE, before_after(params, photo))
    digest = sha256_of(folder / GENERATOR)
    atomic.write_text(folder / CARD, model_card(params, header, repository, digest, picture=photo is not None))
    return sorted(path for path in folder.iterdir() if path.name in (GENERATOR, PARTNER, PICTURE, CARD))


def _save(path: Path, params: weights.Weights, header: Mapping[str, str]) -> None:
    """Writes weights in float16 where that loses nothing, as for a file that was float16 before, else in float32."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(params.variables)]
    with np.errstate(over="ignore"):
        half = all(np.array_equal(leaf.astype(np.float16).astype(np.float32), leaf) for leaf in leaves)
    weights.save(path, params, header, dtype=np.float16 if half else np.float32)


def before_after(params: weights.Weights, photo: np.ndarray) -> np.ndarray:
    """Returns the centre of `[H, W, 3]` uint8, upscaled by bicubic interpolation and, beside it, by the generator."""
    top, left = (max(0, side - PICTURE_PX) // 2 for side in photo.shape[:2])
    lr = photo[top : top + PICTURE_PX, left : left + PICTURE_PX]
    size = (lr.shape[0] * params.scale, lr.shape[1] * params.scale)
    bicubic = color.to_integers(resize.resize(color.from_integers(lr), size, convention="C"), lr.dtype)
    sr = inference.upscale(weights.fold_norms(params), lr)
    return images.side_by_side([np.asarray(bicubic), np.asarray(sr)])


def model_card(
    params: weights.Weights, header: Mapping[str, str], repository: str, sha256: str, picture: bool = False
) -> str:
    """Returns the model card, Markdown with the Hub's fields: what the header says, and how to use the file."""
    licence = header.get("licence", "not stated")
    known = licence.lower() if licence.lower() in LICENCES else ""
    used, sections = {"licence", "purpose", "partner"}, []
    for title, fields in SECTIONS.items():
        keys = [key for pattern in fields for key in sorted(header) if fnmatch.fnmatchcase(key, pattern)]
        used.update(keys)
        lines = _list([(fields.get(key) or key.replace("_", " "), header[key]) for key in keys])
        sections.append(f"## {title}\n\n{lines or NOT_STATED[title]}\n")
    rest = [(key.replace("_", " "), value) for key, value in sorted(header.items()) if key not in used]
    stated = licence != "not stated"
    return TEMPLATE.format(
        licence=f"license: {known or 'other'}\n" if stated else "",
        title=repository.partition("/")[2],
        purpose=f"For {_text(header['purpose'])}. " if "purpose" in header else "",
        scale=params.scale,
        architecture=params.architecture["name"],
        count=params.parameter_count(),
        picture=f"![Bicubic interpolation (left) and this generator]({PICTURE})\n" if picture else "",
        address=f"{PREFIX}{repository}",
        sections="\n".join(sections),
        licence_text=_text(licence) if stated else "The file states no licence: ask its author before you use it.",
        file=GENERATOR,
        sha256=sha256,
        rest=_list(rest),
    )


def _list(fields: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"- {_text(key)}: {_text(value)}" for key, value in fields)


def _text(value: str) -> str:
    """Returns text of a file's header as Markdown that shows it, and nothing else: no link, image or HTML."""
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", html.escape(one_line(value), quote=False))
