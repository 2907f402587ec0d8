"""The weights that ship with the package: `.safetensors` files beside this one, known by their names."""

from pathlib import Path

FOLDER = Path(__file__).parent
DEFAULT = "photo_x4"  # of `srgan-jax upscale`; made for pictures as people's files have them


def names() -> list[str]:
    """What can be given to `srgan_jax.load` and `--weights` in place of a path."""
    return sorted(path.stem for path in FOLDER.glob("[!.]*.safetensors"))


def path_of(name: str) -> Path | None:
    """The file of a shipped generator; None where no such one ships."""
    return FOLDER / f"{name}.safetensors" if name in names() else None
