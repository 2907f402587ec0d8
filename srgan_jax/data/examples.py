"""`find_examples`: the files of a folder from which a data set is prepared, images or pairs."""

from collections.abc import Sequence
from pathlib import Path

from srgan_jax import images
from srgan_jax.images import paired_folders
from srgan_jax.runtime.errors import MissingFileError

Example = tuple[Path, ...]  # an image, or the HR image and the LR image of a pair


def find_examples(folder: str, lr: Sequence[str] = (), lr_name: str = "") -> tuple[list[Example], list[str]]:
    """Returns the files of each example of a folder, one image or a pair, and lines on what was recognised.

    Args:
      folder: images, or pairs; see `paired_folders.find_layout`.
      lr: folders of LR images in it; () for those recognised by their names.
      lr_name: template of their names; "" for the names of the HR images.

    Raises:
      UserError: no images, or no unambiguous pairs.
    """
    layout = paired_folders.find_layout(folder, lr, lr_name)
    if layout:
        return list(paired_folders.match_pairs(layout)), [layout.line()]
    examples = [(path,) for path in images.find_images(folder)]
    if not examples:
        raise MissingFileError(f"{folder} contains no images; expected files of {', '.join(images.SUFFIXES)}")
    unpaired = ", ".join(paired_folders.unpaired_lr(folder)[:5])
    warning = f"WARNING: {unpaired}: named as LR images, but without HR images beside; they become training images"
    return examples, [warning] if unpaired else []
