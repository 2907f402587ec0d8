"""Versions of this package, of the packages that it uses, and of the machine: for run records and bug reports."""

import importlib.metadata
import platform

RECORDED = ("srgan-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")
OTHERS = ("pillow", "tifffile", "imagecodecs", "safetensors", "ml_collections", "tensorboardX", "torch", "h5py")


def package_versions(names: tuple[str, ...] = RECORDED) -> dict[str, str]:
    """Returns the version of each package, or "not installed"."""
    return {name: _version(name) for name in names}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def platform_versions() -> dict[str, str]:
    """Returns the Python version and the name of the operating system with its processor architecture."""
    return {"python": platform.python_version(), "platform": platform.platform()}
