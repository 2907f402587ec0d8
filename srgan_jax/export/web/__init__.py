"""A folder of files with which a browser upscales images by itself: a page, generators as ONNX, ONNX Runtime Web."""

from srgan_jax.export.web.server import serve
from srgan_jax.export.web.site import Site, write_site

__all__ = ["Site", "serve", "write_site"]
