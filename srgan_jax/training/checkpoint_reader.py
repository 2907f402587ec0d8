"""`read_averaged`: the averaged generator of a checkpoint, without the run that wrote it."""

from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from srgan_jax.runtime.errors import UserError
from srgan_jax.runtime.types import PyTree
from srgan_jax.training import checksums
from srgan_jax.training.checkpoints import ITEM


def read_averaged(checkpoint: Path) -> PyTree:
    """Returns the averaged generator of a checkpoint, `TrainState.ema`, as NumPy arrays.

    It needs neither the config of the run nor its devices.

    Raises:
      UserError: the checkpoint isn't complete yet, is damaged, or can't be read.
    """
    if differences := checksums.verify(checkpoint):
        raise UserError(f"{checkpoint} is damaged, or is still being written: {'; '.join(differences[:3])}")
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
            stored: PyTree = reader.metadata(checkpoint.absolute() / ITEM).item_metadata
            wanted = {"ema": stored.tree["ema"]}
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
            options = ocp.args.PyTreeRestore(wanted, restore_args=as_numpy, partial_restore=True)
            return reader.restore(checkpoint.absolute() / ITEM, args=options)["ema"]
    except (OSError, KeyError, ValueError) as error:
        raise UserError(
            f"{checkpoint} can't be read as a checkpoint of training ({str(error).splitlines()[0]})"
        ) from None
