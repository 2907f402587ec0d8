"""The weights that ship with the package: the `.safetensors` files in this folder, by name."""

from pathlib import Path

FOLDER = Path(__file__).parent
DEFAULT = "photo_x4"  # of `srgan-jax upscale`; trained for photos with blur, noise and JPEG artefacts


def names() -> list[str]:
    """Returns the names that `srgan_jax.load` and `--weights` accept in place of a path."""
    return sorted(path.stem for path in FOLDER.glob("[!.]*.safetensors"))


def path_of(name: str) -> Path | None:
    """Returns the file of a shipped generator, or None if no generator of this name ships."""
    return FOLDER / f"{name}.safetensors" if name in names() else None
