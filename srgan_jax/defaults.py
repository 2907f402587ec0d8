"""`get_config`, for config files: `from srgan_jax import defaults`.

The defaults are the values of SRGAN's paper (arXiv 1609.04802). They differ from it, or choose where it says nothing,
in the following:

- Crops are flipped and rotated (`data.augment`); the paper names no augmentation.
- The content loss is a mean over all elements of the features. The paper's equation 5 sums over the channels: with
  relu5_4 its value is 512 times ours. The adversarial loss is a mean over the batch; equation 3 sums.
- LR of a crop is that of its whole image, rounded to 8 bits. The paper shrinks crops.
- The moving average of the generator (`ema_decay`) is validated, published, and begins the next stage.
- Convolutions directly before batch normalisation have no bias, which has no effect there.
- Not in the paper: one slope for each channel of a PReLU, a linear output, momentum 0.9 and epsilon 1e-5 of batch
  normalisation, LeCun's initialisation, Adam's b2 of 0.999.
"""

from srgan_jax.config.keys import get_config

__all__ = ["get_config"]
