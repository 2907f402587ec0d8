"""The weights from which a run begins, `config.init_from`, and their copy in the run's folder.

With the copy a run resumes where the original file is gone, or has another path.
"""

from pathlib import Path

from srgan_jax import weights
from srgan_jax.runtime import processes

COPY = "initial.safetensors"


def load_initial(init_from: str, folder: Path) -> weights.Weights | None:
    """Returns the initial generator, batch normalisation not folded; None if `init_from` is "".

    Args:
      init_from: as in the config.
      folder: of the run; its copy is read if `is_same`.

    Raises:
      UserError: there is neither the file nor a copy, or the file is not a generator.
    """
    if not init_from:
        return None
    return weights.load(folder / COPY if is_same(init_from, folder) else init_from, fold=False)


def keep_initial(initial: weights.Weights | None, init_from: str, folder: Path) -> None:
    """Writes the initial generator into the folder of the run, in process 0, unless it is there already."""

    def keep() -> None:
        if initial is not None and not is_same(init_from, folder):
            header = {"init_from": init_from, "init_from_sha256": weights.digest(init_from) or ""}
            weights.save(folder / COPY, initial, header)

    processes.on_first_process(keep)


def is_same(init_from: str, folder: Path) -> bool:
    """Returns whether the copy in `folder` is that of `init_from`.

    The file is compared by its SHA-256; where it doesn't exist, by its name without folders.
    """
    if not init_from or not (folder / COPY).is_file():
        return False
    header = weights.read_header(folder / COPY)
    digest = weights.digest(init_from)
    if digest is None:
        return Path(header.get("init_from", "")).name == Path(init_from).name
    return digest == header.get("init_from_sha256")
