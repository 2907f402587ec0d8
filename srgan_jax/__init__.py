"""Super-resolution with SRGAN, in JAX.

    import srgan_jax
    params = srgan_jax.load("photo_x4")     # or the folder of a run, or a .safetensors file
    sr = srgan_jax.upscale(params, img)     # [H, W, 3] or [N, H, W, 3], uint8 or float in [0, 1]

Importing this package doesn't import the libraries of training (tensorflow_datasets, grain, orbax, optax,
ml_collections).
"""

from srgan_jax.images import Picture, read_image, write_image
from srgan_jax.inference import upscale, upscale_tiled
from srgan_jax.weights import Weights, WeightsError, blend, load, make_weights, read_header, save

__version__ = "0.1.0"
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
