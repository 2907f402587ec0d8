"""Builds the `Game` of small networks that an update takes; several test files use it."""

import optax

from srgan_jax.losses.terms import DISCRIMINATOR_TERMS, TERMS, WeightedTerm
from srgan_jax.training.game import Averaging, Game, Optimizer, Player

PIXEL = {"pixel": ("mse", 1.0)}


def weighted(losses, table=TERMS):
    """Returns terms from `{name: (term, weight)}` or `{name: (term, weight, options)}`."""
    return tuple(
        WeightedTerm(name, table[term], weight, dict(*options)) for name, (term, weight, *options) in losses.items()
    )


def make_game(
    generator, discriminator=None, *, g_rate=0.1, d_rate=0.1, losses=PIXEL, d_losses=None, features=None,
    microbatches=1, scan=False, axis_name=None, remat=False, history=0.0, every=1, takes=("image",), **options,
):  # fmt: skip
    """Returns a game with plain SGD; a rate may also be an optax transformation. `d_losses` is BCE by default."""
    transformations = [rate if hasattr(rate, "init") else optax.sgd(rate) for rate in (g_rate, d_rate)]
    g = Player(generator, Optimizer(transformations[0], historical_averaging=history), weighted(losses))
    d = None
    if discriminator is not None:
        optimizer = Optimizer(transformations[1], historical_averaging=history, every=every)
        terms = weighted(d_losses or {"d_loss": ("bce", 1.0)}, DISCRIMINATOR_TERMS)
        d = Player(discriminator, optimizer, terms, takes, remat=remat)
    return Game(g, d, features, averaging=Averaging(microbatches, axis_name, scan), **options)
