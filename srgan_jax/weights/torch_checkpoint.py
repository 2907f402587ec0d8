"""Reading PyTorch checkpoints as NumPy arrays."""

import os
from collections.abc import Mapping

import numpy as np

from srgan_jax.runtime.errors import MissingFileError, UserError

Tensors = Mapping[str, np.ndarray]
WRAPPERS = ("params_ema", "params", "state_dict", "model", "generator", "g_state_dict")


def read_torch(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the tensors of a PyTorch checkpoint (`weights_only`: no pickle is executed) or a `.safetensors`.

    Raises:
      UserError: the file does not exist or is not a state dict, or PyTorch is not installed.
    """
    if not os.path.isfile(path):
        raise MissingFileError(f"no such file: {os.fspath(path)}")
    if os.fspath(path).endswith(".safetensors"):
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise UserError(f"{path} is not a readable .safetensors file ({error})") from None
    try:
        import torch
    except ImportError:
        raise UserError('reading a PyTorch checkpoint needs PyTorch: pip install "srgan-jax[torch]"') from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types
        reason = str(error).splitlines()[0]
        if "weights_only" in str(error):  # torch's message advises to read the file unsafely
            reason = "expected only tensors, as torch.save(model.state_dict(), FILE) writes them"
        raise UserError(f"{path} can't be read safely: {reason}") from None
    state = next(
        (state[key] for key in WRAPPERS if isinstance(state, dict) and isinstance(state.get(key), dict)), state
    )
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{path} holds no state dict of tensors; expected torch.save(model.state_dict())")
    return {key.removeprefix("module."): value.float().numpy() for key, value in state.items()}
