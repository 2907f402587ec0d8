"""`get_config`, for config files: `from srgan_jax import defaults`."""

from srgan_jax.config.keys import get_config

__all__ = ["get_config"]
