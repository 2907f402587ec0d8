"""The recipes: each file is a whole training config. Installed as `srgan_jax.recipes`."""
