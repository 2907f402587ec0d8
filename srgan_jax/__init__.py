"""Super-resolution with SRGAN, in JAX.

    import srgan_jax
    params = srgan_jax.load("photo_x4")     # or the folder of a run, or a .safetensors file
    sr = srgan_jax.upscale(params, img)     # [H, W, 3] or [N, H, W, 3], uint8 or float in [0, 1]

Importing this package doesn't import the libraries of training (tensorflow_datasets, grain, orbax, optax,
ml_collections).
"""

import gc
import importlib.metadata

_collecting = gc.isenabled()
gc.disable()  # imports make objects that stay: searching them for garbage would take a fifth of the time
try:
    from srgan_jax.images import Picture, read_image, write_image
    from srgan_jax.inference import upscale, upscale_tiled
    from srgan_jax.weights import Weights, WeightsError, blend, load, make_weights, read_header, save
finally:
    if _collecting:
        gc.enable()

try:
    __version__ = importlib.metadata.version("srgan-jax")  # it stands in pyproject.toml alone
except importlib.metadata.PackageNotFoundError:  # a checkout that is on the path but not installed
    __version__ = "unknown"
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
