"""The weights from which a run begins, `config.init_from` and `config.discriminator_init_from`, and their copies.

The copies are in the run's folder. With them, a run can be resumed if the original files were deleted or moved.
"""

from pathlib import Path

from srgan_jax import weights
from srgan_jax.runtime import processes
from srgan_jax.weights.safetensors_io import read_metadata

COPY = "initial.safetensors"
DISCRIMINATOR_COPY = "initial_discriminator.safetensors"


def load_initial(init_from: str, folder: Path) -> weights.Weights | None:
    """Returns the initial generator, batch normalisation not folded; None if `init_from` is "".

    Args:
      init_from: as in the config.
      folder: folder of the run; its copy is read if `is_same`.

    Raises:
      UserError: neither the file nor a copy exists, or the file is not a generator.
    """
    if not init_from:
        return None
    return weights.load(_original_or_copy(init_from, folder / COPY), fold=False)


def load_initial_discriminator(init_from: str, folder: Path) -> weights.DiscriminatorWeights | None:
    """Returns the initial discriminator; None if `init_from` is "". The arguments are those of `load_initial`."""
    if not init_from:
        return None
    return weights.load_discriminator(_original_or_copy(init_from, folder / DISCRIMINATOR_COPY))


def keep_initial(initial: weights.Weights | weights.DiscriminatorWeights | None, init_from: str, folder: Path) -> None:
    """Writes an initial network into the folder of the run, in process 0, unless it is already there."""

    def keep() -> None:
        copy = folder / (DISCRIMINATOR_COPY if isinstance(initial, weights.DiscriminatorWeights) else COPY)
        if initial is None or is_same(init_from, copy):
            return
        header = {"init_from": init_from, "init_from_sha256": weights.digest(init_from) or ""}
        if isinstance(initial, weights.DiscriminatorWeights):
            weights.save_discriminator(copy, initial, header)
        else:
            weights.save(copy, initial, header)

    processes.on_first_process(keep)


def is_same(init_from: str, copy: Path) -> bool:
    """Returns whether `copy`, a file in the folder of the run, is a copy of `init_from`.

    The file is compared by its SHA-256; where it doesn't exist, by its name without folders.
    """
    if not init_from or not copy.is_file():
        return False
    header = read_metadata(copy)
    digest = weights.digest(init_from)
    if digest is None:
        return Path(header.get("init_from", "")).name == Path(init_from).name
    return digest == header.get("init_from_sha256")


def _original_or_copy(init_from: str, copy: Path) -> Path | str:
    return copy if is_same(init_from, copy) else init_from
