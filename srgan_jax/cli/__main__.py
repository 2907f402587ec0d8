"""`python -m srgan_jax.cli`, the same as the command `srgan-jax`."""

import sys

from srgan_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
