"""`get_config`, which people's own config files import: `from srgan_jax import defaults`."""

from srgan_jax.config.keys import get_config

__all__ = ["get_config"]
