"""One update of the generator on the content loss: pure, un-jitted, no device named."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import optax

from srgan_jax.losses.content import Features, Metrics, content_terms
from srgan_jax.training import mapping
from srgan_jax.training.players import advance, forward, mean_over, updated
from srgan_jax.training.state import TrainState


def pretrain_step(
    state: TrainState,
    batch: Mapping[str, jax.Array],
    features: Features | None = None,
    *,
    generator: nn.Module,
    optimizer: optax.GradientTransformation,
    losses: Mapping[str, Any],
    ema_decay: float = 0.999,
    axis_name: str | None = None,
    micro_batches: int = 1,
) -> tuple[TrainState, Metrics]:
    """One update of the generator on the content loss alone.

    Args:
      state: from `create_train_state`.
      batch: "lr" `[N, h, w, 3]` and "hr" `[N, h * scale, w * scale, 3]` in [0, 1].
      features: see `content_terms`.
      generator: module.
      optimizer: its optimiser.
      losses: keyword arguments of `content_terms`.
      ema_decay: of the averaged generator.
      axis_name: under pmap, the axis to average over.
      micro_batches: parts of the batch that pass one after the other, each with its own batch statistics, of which the
        mean is kept; without batch normalisation the update is that of the whole batch.

    Returns:
      The next state, and scalars: "loss" and each weighted term.
    """

    def gradient(part):
        def loss_fn(params):
            sr, batch_stats = forward(generator, params, state.generator.batch_stats, part["lr"])
            terms = content_terms(sr, part["hr"], features, **losses)
            return sum(terms.values()), (terms, batch_stats)

        return jax.grad(loss_fn, has_aux=True)(state.generator.params)

    grads, (terms, batch_stats) = mean_over(mapping.mean_of_parts(gradient, batch, micro_batches), axis_name)
    g = updated(state.generator, grads, batch_stats, optimizer)
    return advance(state, g, ema_decay), {"loss": sum(terms.values()), **terms}
