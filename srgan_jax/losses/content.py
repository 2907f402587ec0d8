"""The content loss of a generator: pixels, features and total variation, weighted."""

from collections.abc import Callable, Mapping, Sequence

import jax

from srgan_jax.losses.penalties import total_variation
from srgan_jax.losses.pixel import PIXEL
from srgan_jax.ops import color
from srgan_jax.runtime.errors import lookup

Metrics = dict[str, jax.Array]
Features = Callable[[jax.Array], Mapping[str, jax.Array]]  # images in [0, 1] -> feature maps, scaled for the loss


def content_terms(
    sr: jax.Array,
    hr: jax.Array,
    features: Features | None = None,
    *,
    pixel: str = "mse",
    pixel_weight: float = 1.0,
    perceptual: str = "mse",
    perceptual_weight: float = 0.0,
    perceptual_tap_weights: Sequence[float] = (),
    tv_weight: float = 0.0,
) -> Metrics:
    """The weighted terms of the content loss; those of weight 0 are left out.

    The paper's equation 5 sums squared feature differences over the channels; here, as in most reproductions, every
    term is a mean over all its elements.

    Args:
      sr: `[N, H, W, 3]` in [0, 1].
      hr: the same shape.
      features: images in [0, 1] to named feature maps, already scaled as their weights' convention asks.
      pixel: a name in `losses.PIXEL`, computed on [-1, 1] as in the paper.
      pixel_weight: its weight.
      perceptual: a name in `losses.PIXEL`, computed on the feature maps.
      perceptual_weight: its weight.
      perceptual_tap_weights: of each feature map besides, in the order of `features`; 1 by default.
      tv_weight: of the total variation of `sr` on [-1, 1].
    """
    sr_signed, hr_signed = color.to_signed(sr), color.to_signed(hr)
    terms = {}
    if pixel_weight:
        terms["pixel"] = pixel_weight * lookup(PIXEL, pixel, "pixel loss")(sr_signed, hr_signed).mean()
    if perceptual_weight:
        distance = lookup(PIXEL, perceptual, "perceptual loss")
        ours, theirs = features(sr), features(hr)
        tap_weights = tuple(perceptual_tap_weights) or (1.0,) * len(ours)
        distances = [w * distance(ours[tap], theirs[tap]).mean() for tap, w in zip(ours, tap_weights, strict=True)]
        terms["perceptual"] = perceptual_weight * sum(distances)
    if tv_weight:
        terms["total_variation"] = tv_weight * total_variation(sr_signed).mean()
    return terms
