"""A folder of files with which a browser upscales images by itself: a page, generators as ONNX, ONNX Runtime Web."""

from srgan_jax.export.web.server import check_port, serve
from srgan_jax.export.web.site import Site, check_folder, write_site

__all__ = ["Site", "check_folder", "check_port", "serve", "write_site"]
