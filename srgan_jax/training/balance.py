"""`BalanceMonitor`: a warning for a discriminator that classifies nearly all images correctly."""

from collections.abc import Mapping


class BalanceMonitor:
    """Warns when the discriminator wins: the generator then gets hardly any gradient from it."""

    PATIENCE = 10  # consecutive logged updates

    def __init__(self, accuracy: float):
        self._accuracy, self._count = accuracy, 0

    def line(self, metrics: Mapping[str, float]) -> str | None:
        """Returns the warning that is due at a logged update, or None.

        Args:
          metrics: of the update; without the accuracies of `gan_step` there is no warning.
        """
        real, fake = (metrics.get(f"d_accuracy_{kind}", 0.0) for kind in ("real", "fake"))
        won, self._count = self._count, self._count + 1 if min(real, fake) > self._accuracy else 0
        if self._count == self.PATIENCE:
            return (
                f"the discriminator wins: it classified {real:.0%} of real and {fake:.0%} of generated images "
                f"correctly, more than {self._accuracy:.0%} at each of the last {self.PATIENCE} logged updates; try "
                "label_smoothing=0.1, a lower discriminator_learning_rate, or discriminator_every=2"
            )
        return "the discriminator no longer wins" if won >= self.PATIENCE and not self._count else None
