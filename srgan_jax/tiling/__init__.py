"""Pictures of any size in bounded memory: tiles that equal the whole."""

from srgan_jax.tiling.grid import MAX_HALO_PX, Span, bytes_per_px, choose_tile, halo_px, max_area, smallest_tile, spans
from srgan_jax.tiling.sources import Source, from_array, self_ensemble
from srgan_jax.tiling.tiler import Tiler, upscale_tiled

__all__ = [
    "MAX_HALO_PX",
    "Source",
    "Span",
    "Tiler",
    "bytes_per_px",
    "choose_tile",
    "from_array",
    "halo_px",
    "max_area",
    "self_ensemble",
    "smallest_tile",
    "spans",
    "upscale_tiled",
]
