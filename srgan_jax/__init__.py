"""Super-resolution with SRGAN, in JAX.

    import srgan_jax
    params = srgan_jax.load("photo_x4")     # or the folder of a run, or a .safetensors file
    sr = srgan_jax.upscale(params, img)     # [H, W, 3] or [N, H, W, 3], uint8 or float in [0, 1]

Importing this package imports nothing else, not even JAX: the first use of a name does. The libraries of training
(tensorflow_datasets, grain, orbax, optax, ml_collections) are imported by training alone.
"""

import gc
import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srgan_jax.images import Picture, read_image, write_image
    from srgan_jax.inference import upscale, upscale_tiled
    from srgan_jax.weights import Weights, WeightsError, blend, load, make_weights, read_header, save

__all__ = [
    "Picture",
    "Weights",
    "WeightsError",
    "blend",
    "load",
    "make_weights",
    "read_header",
    "read_image",
    "save",
    "upscale",
    "upscale_tiled",
    "write_image",
]
_SUBPACKAGES = ("images", "inference", "weights")  # that define these names


def _import_all() -> None:
    """Imports JAX and the subpackages that define the names of `__all__`."""
    collecting = gc.isenabled()
    gc.disable()  # imports make objects that stay: searching them for garbage would take a fifth of the time
    try:
        for subpackage in _SUBPACKAGES:
            module = importlib.import_module(f"{__name__}.{subpackage}")
            globals().update({name: getattr(module, name) for name in __all__ if hasattr(module, name)})
    finally:
        if collecting:
            gc.enable()


def __getattr__(name: str) -> Any:
    """Returns a name of `__all__`, a subpackage, or the version; raises AttributeError for others."""
    if name in __all__:
        _import_all()
        return globals()[name]
    if name == "__version__":
        try:
            return importlib.metadata.version("srgan-jax")  # it stands in pyproject.toml alone
        except importlib.metadata.PackageNotFoundError:  # a checkout that is on the path but not installed
            return "unknown"
    if not name.startswith("_"):
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
