"""Loss terms of the generator and the discriminator, by name. A loss is a weighted sum of named terms.

A new term is one function `(views, **options) -> array` and one entry in a table. The mean of the array is its value:

    TERMS["frequency"] = Term(frequency, ("sr", "hr"))
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp

from srgan_jax.losses.adversarial import ADVERSARIAL, Decision
from srgan_jax.losses.penalties import gradient_penalty, lattice_statistics, total_variation
from srgan_jax.losses.pixel import PIXEL
from srgan_jax.losses.views import Views
from srgan_jax.ops import color, resize
from srgan_jax.runtime.errors import UserError, lookup

Metrics = dict[str, jax.Array]
TermFunction = Callable[..., jax.Array]  # (views, **options) -> array; its mean is the value of the term
Weight = float | Callable[[jax.Array], jax.Array]  # a number, or a function of the step


class Term(NamedTuple):
    """An entry of `TERMS` or `DISCRIMINATOR_TERMS`.

    Attributes:
      function: `(views, **options) -> array`; the mean over all its elements is the term's value.
      views: the fields of `Views` that it reads.
      decision: for a discriminator's adversarial term: `(real_logits, fake_logits) -> (real, fake)` of the same shapes,
        positive where the discriminator classifies an image as real. The accuracy in the log is computed with it.
    """

    function: TermFunction
    views: tuple[str, ...]
    decision: Decision | None = None


class WeightedTerm(NamedTuple):
    """A term with its weight and options in one stage.

    Attributes:
      name: key in the log.
      term: entry of the table.
      weight: a number, or a function of the step.
      options: keyword arguments of the function.
      grad_ratio: if not 0, the weight is adapted during training, see `training.grad_balance`.
    """

    name: str
    term: Term
    weight: Weight
    options: Mapping[str, object] = {}
    grad_ratio: float = 0.0

    def value(self, views: Views) -> jax.Array:
        """Returns the unweighted value of the term: a scalar."""
        try:
            return self.term.function(views, **self.options).mean()
        except UserError:
            raise
        except Exception as error:  # terms of users raise exceptions of any kind
            error.add_note(f"in the loss term {self.name!r}, whose entry names the views {', '.join(self.term.views)}")
            raise

    def weight_at(self, step: jax.Array | int) -> jax.Array | float:
        """Returns the weight at an update."""
        return self.weight(jnp.asarray(step)) if callable(self.weight) else self.weight


def ramp(weight: float, steps: int) -> Weight:
    """Returns a weight that rises linearly from 0 to `weight` over `steps` updates; with 0 steps it is constant."""
    return (lambda step: weight * jnp.minimum(1.0, (step + 1.0) / steps)) if steps else weight


def weighted_sum(terms: Sequence[WeightedTerm], views: Views, step: jax.Array | int) -> tuple[jax.Array, Metrics]:
    """Returns the weighted sum of the terms, and its metrics.

    The metrics hold each term's weighted value under its name, and its unweighted value under `NAME_unweighted`.
    """
    metrics: Metrics = {}
    total: jax.Array | float = 0.0
    for term in terms:
        value = term.value(views)
        metrics[term.name] = term.weight_at(step) * value
        metrics[f"{term.name}_unweighted"] = value
        total = total + metrics[term.name]
    return jnp.asarray(total), metrics


def views_of(terms: Sequence[WeightedTerm]) -> frozenset[str]:
    """Returns the fields of `Views` that any of the terms reads."""
    return frozenset(field for term in terms for field in term.term.views)


def taps_of(terms: Sequence[WeightedTerm]) -> tuple[str, ...]:
    """Returns the taps (compared feature layers) of all terms, in order and without duplicates."""
    found = [cast(Sequence[str], term.options.get("taps", ())) for term in terms if "features" in term.term.views]
    return tuple(dict.fromkeys(tap for taps in found for tap in taps))


def accuracies(terms: Sequence[WeightedTerm], logits: Sequence[tuple[jax.Array, jax.Array]]) -> Metrics:
    """Returns the fractions of real and of generated images that D classifies correctly, averaged over its heads."""
    decision = next((term.term.decision for term in terms if term.term.decision), None)
    if decision is None:
        return {}
    decisions = [decision(real, fake) for real, fake in logits]
    correct = {
        "d_accuracy_real": [real > 0 for real, _ in decisions],
        "d_accuracy_fake": [fake < 0 for _, fake in decisions],
    }
    return {name: jnp.asarray(sum(head.mean() for head in heads)) / len(heads) for name, heads in correct.items()}


# ---------------------------------------------------------------------------------------------- entries of the tables


def pixel(views: Views, *, loss: str, **options: float) -> jax.Array:
    """Returns a loss of `PIXEL` between SR and HR on [-1, 1], the range that the paper uses."""
    return PIXEL[loss](color.to_signed(views.sr), color.to_signed(views.hr), **options)


def perceptual(
    views: Views, *, distance: str = "mse", taps: Sequence[str] = (), tap_weights: Sequence[float] = ()
) -> jax.Array:
    """Returns the distance between features of SR and HR, summed over the taps.

    Equation 5 of the paper sums squared feature differences over the channels. Here, as in most reproductions, each
    distance is the mean over all elements.

    Args:
      views: with `features`.
      distance: a name in `PIXEL`.
      taps: names of the compared feature layers of the extractor.
      tap_weights: one for each tap; () means 1 for each.
    """
    function = lookup(PIXEL, distance, "perceptual loss")
    if len(tap_weights) not in (0, len(taps)):
        raise UserError(
            f"tap_weights={tuple(tap_weights)}: expected one number for each of the {len(taps)} taps, or ()"
        )
    if not taps:
        raise UserError(
            "taps=(): expected at least one feature layer of the extractor; write ('relu5_4',), for instance"
        )
    weights = tuple(tap_weights) or (1.0,) * len(taps)
    distances = [w * function(*views.features[tap]).mean() for tap, w in zip(taps, weights, strict=True)]
    return jnp.asarray(sum(distances))


def variation(views: Views) -> jax.Array:
    """Returns the total variation of SR on [-1, 1]."""
    return total_variation(color.to_signed(views.sr))


def lattice(views: Views, *, period: int = 4, epsilon: float = 1e-7) -> jax.Array:
    """Returns how much the high frequencies of SR differ between the positions of a lattice, `[period, period]`.

    It is the sum of two parts: the squared difference between the log energy and its mean over the positions (the
    metric `phase` measures this over a set of images), and the fraction of the energy that is a fixed pattern (the
    squared mean at the position, divided by the mean energy).

    Args:
      views: with `sr`.
      period: side of the lattice in pixels, usually the scale.
      epsilon: added to the energies, because the logarithm has a large absolute value for flat images.
    """
    mean, energy = lattice_statistics(views.sr, period)
    log_energy = jnp.log(energy + epsilon)
    return jnp.square(log_energy - log_energy.mean()) + jnp.square(mean) / (energy.mean() + epsilon)


def mesh(views: Views, *, period: int = 4, block_px: int = 28, epsilon: float = 1e-6) -> jax.Array:
    """Returns how much more a pattern repeats in the blocks of SR than in those of HR, `[blocks]`; at least 0.

    It compares this measure: the fraction of the energy of high frequencies that is the same in every cell of a block,
    times the number of cells. A cell is a square of `period` px. The measure is 1 for noise, and the number of cells
    for a fixed mesh. `lattice` averages over the batch, where meshes that differ from place to place cancel.

    Args:
      views: with `sr` and `hr`; their sides are at least `block_px + 8`.
      period: side of a cell in pixels, usually the scale.
      block_px: side of a block, a multiple of `period`.
      epsilon: added to the energies, so that flat blocks have little effect; 1e-6 is a standard deviation of a quarter
        of a level of 255.
    """
    if block_px % period or min(views.sr.shape[1:3]) < block_px + 8:
        raise UserError(
            f"mesh: block_px={block_px}, period={period} and crops of {views.sr.shape[1]} px: expected for block_px a "
            f"multiple of the period that is at least 8 px smaller than the crops"
        )

    def repeated(image: jax.Array) -> jax.Array:
        mean, energy = lattice_statistics(image, period, block_px)
        fraction = jnp.square(mean).mean(axis=(1, 2)) / (energy.mean(axis=(1, 2)) + epsilon)
        return fraction * (block_px // period) ** 2

    return jax.nn.relu(repeated(views.sr) - jax.lax.stop_gradient(repeated(views.hr)))


def consistency(views: Views, *, distance: str = "l1", factor: int = 4) -> jax.Array:
    """Returns a distance between SR and HR on [-1, 1], both shrunk by MATLAB's bicubic without rounding.

    It keeps what LR determines, colours above all, and does not constrain texture.

    Args:
      views: with `sr` and `hr`.
      distance: a name in `PIXEL`.
      factor: factor by which the images are shrunk, usually the scale.
    """
    function = lookup(PIXEL, distance, "consistency loss")
    size = (views.hr.shape[1] // factor, views.hr.shape[2] // factor)
    shrunk = [resize.resize(image, size, convention="C") for image in (views.sr, views.hr)]
    return function(*map(color.to_signed, shrunk))


def adversarial(views: Views, *, loss: str) -> jax.Array:
    """Returns the generator's loss of an entry of `ADVERSARIAL`, averaged over the discriminator's heads."""
    heads = [ADVERSARIAL[loss].generator(real, fake) for real, fake in views.logits]
    return jnp.asarray(sum(heads)) / len(heads)


def discrimination(views: Views, *, loss: str, label_smoothing: float = 0.0) -> jax.Array:
    """Returns the discriminator's loss of an entry of `ADVERSARIAL`, averaged over its heads.

    Args:
      views: with `logits`.
      loss: a name in `ADVERSARIAL`.
      label_smoothing: the target for real images is 1 minus this (one-sided, arXiv 1606.03498, section 3.4).
    """
    if not 0.0 <= label_smoothing < 1.0:
        raise UserError(f"label_smoothing={label_smoothing}: expected 0 or more, and less than 1")
    heads = [ADVERSARIAL[loss].discriminator(real, fake, 1.0 - label_smoothing) for real, fake in views.logits]
    return jnp.asarray(sum(heads)) / len(heads)


def penalty(views: Views) -> jax.Array:
    """Returns WGAN-GP's gradient penalty, averaged over the discriminator's heads; its usual weight is 10."""
    if views.critic is None or views.keys is None:
        raise UserError("gradient_penalty needs a discriminator whose only input is the image (TAKES = ('image',))")
    critic, keys = views.critic, views.keys
    values = [
        gradient_penalty(lambda image, head=head: critic(image)[head], views.hr, views.sr, keys)
        for head in range(len(views.logits))
    ]
    return jnp.asarray(sum(values)) / len(values)


TERMS: dict[str, Term] = {
    **{name: Term(functools.partial(pixel, loss=name), ("sr", "hr")) for name in PIXEL},
    "perceptual": Term(perceptual, ("features",)),
    "total_variation": Term(variation, ("sr",)),
    "consistency": Term(consistency, ("sr", "hr")),
    "lattice": Term(lattice, ("sr",)),
    "mesh": Term(mesh, ("sr", "hr")),
    **{name: Term(functools.partial(adversarial, loss=name), ("logits",)) for name in ADVERSARIAL},
}
DISCRIMINATOR_TERMS: dict[str, Term] = {
    **{
        name: Term(functools.partial(discrimination, loss=name), ("logits",), entry.decision)
        for name, entry in ADVERSARIAL.items()
    },
    "gradient_penalty": Term(penalty, ("sr", "hr", "critic")),
}
