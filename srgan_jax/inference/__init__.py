"""Inference: `upscale` for arrays, `upscale_tiled` and `Tiler` for images of any size, tile by tile."""

from srgan_jax.inference.chain import Chain
from srgan_jax.inference.channels import TiledImage, from_array, self_ensemble
from srgan_jax.inference.checks import NonFiniteError
from srgan_jax.inference.tile_grid import (
    MAX_HALO_PX,
    Span,
    bytes_per_px,
    choose_tile,
    halo_px,
    max_area,
    period_px,
    smallest_tile,
    spans,
)
from srgan_jax.inference.tiler import Tiler, upscale_tiled
from srgan_jax.inference.upscale import upscale, upscale_canvas

__all__ = [
    "MAX_HALO_PX",
    "Chain",
    "NonFiniteError",
    "Span",
    "TiledImage",
    "Tiler",
    "bytes_per_px",
    "choose_tile",
    "from_array",
    "halo_px",
    "max_area",
    "period_px",
    "self_ensemble",
    "smallest_tile",
    "spans",
    "upscale",
    "upscale_canvas",
    "upscale_tiled",
]
