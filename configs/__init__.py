"""The recipes. Each file is a complete training config; installed as the package `srgan_jax.recipes`."""
