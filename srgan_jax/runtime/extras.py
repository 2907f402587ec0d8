"""Optional dependencies: the modules of each extra, and the error if `pip install "srgan-jax[EXTRA]"` is needed."""

import importlib.util

from srgan_jax.runtime.errors import UserError

# Extra -> its modules that this package imports. A test compares the extras with pyproject.toml.
MODULES = {
    "train": ("tensorflow_datasets", "grain", "ml_collections", "absl", "tensorboardX"),
    "keras": ("h5py",),
    "onnx": ("onnx", "onnxruntime"),
    "ncnn": ("ncnn",),
    "heic": ("pillow_heif",),
    "jxl": ("pillow_jxl",),
    "video": ("av",),
    "raw": ("rawpy",),
    "quickstart": ("skimage",),
    "wandb": ("wandb",),
    "plan-tpu": ("libtpu",),  # JAX imports this module and the next
    "plan-cuda": ("jax_plugins.xla_cuda13",),
    "hub": ("huggingface_hub",),
    "gcs": ("gcsfs",),
}


def missing(extra: str) -> list[str]:
    """Returns the modules of an extra that are not installed."""
    return [name for name in MODULES[extra] if not _is_installed(name)]


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that holds the module is missing
        return False


def require(extra: str, purpose: str) -> None:
    """Raises an error that names the command to install, unless every module of an extra is installed.

    Args:
      extra: a key of `MODULES`.
      purpose: what needs it, as the subject of a sentence: "training".

    Raises:
      UserError: a module is missing.
    """
    if names := missing(extra):
        raise UserError(
            f'{purpose} needs packages that are not installed ({", ".join(names)}): pip install "srgan-jax[{extra}]"'
        )
