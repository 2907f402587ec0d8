"""The gradients of loss terms with respect to SR: their norms, and an adaptive weight that keeps one at a ratio.

VQGAN (Esser et al., arXiv 2012.09841, equation 7) uses the gradients of the last layer. Here the gradients with respect
to SR are used, and the weight is smoothed over updates.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from srgan_jax.losses.terms import Metrics, WeightedTerm, weighted_sum
from srgan_jax.losses.views import Views

DECAY = 0.99  # decay of the smoothed factor; it rises to this value, as the decay of the averaged generator does


def balanced_term(terms: Sequence[WeightedTerm]) -> WeightedTerm | None:
    """Returns the term whose weight adapts, or None."""
    return next((term for term in terms if term.grad_ratio), None)


def balanced_gradient(
    terms: Sequence[WeightedTerm],
    views: Callable[[jax.Array], Views],
    sr: jax.Array,
    step: jax.Array,
    weight: jax.Array,
) -> tuple[jax.Array, Metrics]:
    """Returns the gradient of a loss with respect to SR, and its metrics, among them the new weight "grad_scale".

    Args:
      terms: terms of the loss; one of them has a `grad_ratio`.
      views: function from SR to the views of the terms.
      sr: generated images `[N, H, W, 3]`.
      step: updates so far.
      weight: smoothed factor of that term so far, a scalar.
    """
    own = balanced_term(terms)
    if own is None:
        raise ValueError("expected a term with grad_ratio")
    others = [term for term in terms if term is not own]

    def losses(sr: jax.Array) -> tuple[tuple[jax.Array, jax.Array], tuple[Metrics, Metrics]]:
        found = views(sr)
        (rest, rest_metrics), (value, own_metrics) = (weighted_sum(part, found, step) for part in (others, [own]))
        return (rest, value), (rest_metrics, own_metrics)

    (rest, value), pull_back, (metrics, own_metrics) = jax.vjp(losses, sr, has_aux=True)
    one, zero = jnp.ones_like(value), jnp.zeros_like(value)
    (rest_gradient,), (own_gradient,) = pull_back((one, zero)), pull_back((zero, one))
    norms = [jnp.sqrt(jnp.square(gradient).sum()) for gradient in (rest_gradient, own_gradient)]
    count = step.astype(jnp.float32)
    decay = jnp.minimum(DECAY, count / (10.0 + count))  # the first update takes the ratio as it is
    weight = decay * weight + (1.0 - decay) * own.grad_ratio * norms[0] / jnp.maximum(norms[1], 1e-12)
    own_metrics = {name: weight * entry if name == own.name else entry for name, entry in own_metrics.items()}
    metrics = {"loss": rest + weight * value, **metrics, **own_metrics, "grad_scale": weight}
    return rest_gradient + weight * own_gradient, metrics


def gradient_fractions(
    terms: Sequence[WeightedTerm], views: Callable[[jax.Array], Views], sr: jax.Array, step: jax.Array
) -> Metrics:
    """Returns the norm of each weighted term's gradient with respect to SR, as a fraction of the sum of these norms."""

    def norm(term: WeightedTerm) -> jax.Array:
        gradient = jax.grad(lambda sr: term.weight_at(step) * term.value(views(sr)))(sr)
        return jnp.sqrt(jnp.square(gradient).sum())

    norms = {term.name: norm(term) for term in terms}
    total = jnp.maximum(jnp.asarray(sum(norms.values())), 1e-30)
    return {f"grad_share/{name}": value / total for name, value in norms.items()}
