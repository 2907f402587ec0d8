"""`BalanceMonitor`: warnings for a discriminator that wins, and for a discriminator that is at chance."""

from collections.abc import Mapping

CHANCE = 0.52  # mean accuracy on real and generated images below which the discriminator is at chance
WINS_ADVICE = "try label_smoothing=0.1, a lower discriminator_learning_rate, or discriminator_every=2"
CHANCE_ADVICE = "try a higher discriminator_learning_rate, a wider discriminator, or step=gan_several_updates"


class BalanceMonitor:
    """Warns when the discriminator wins or is at chance: the generator then learns hardly anything from it."""

    PATIENCE = 10  # consecutive logged updates

    def __init__(self, accuracy: float):
        self._accuracy = accuracy
        self._wins, self._guesses = _Streak(self.PATIENCE), _Streak(self.PATIENCE)

    def line(self, metrics: Mapping[str, float]) -> str | None:
        """Returns the warning that is due at a logged update, or None.

        Args:
          metrics: means since the last logged update; without the accuracies of `gan_step` there is no warning.
        """
        real, fake = (metrics.get(f"d_accuracy_{kind}", float("nan")) for kind in ("real", "fake"))
        found = f"it classified {real:.0%} of real and {fake:.0%} of generated images correctly"
        last = f"at each of the last {self.PATIENCE} logged updates"
        won = self._wins.changed(min(real, fake) > self._accuracy)
        guessed = self._guesses.changed((real + fake) / 2 < CHANCE)
        if won:
            return f"the discriminator wins: {found}, more than {self._accuracy:.0%} {last}; {WINS_ADVICE}"
        if guessed:
            return f"the discriminator is at chance: {found}, in the mean below {CHANCE:.0%} {last}; {CHANCE_ADVICE}"
        if won is False:
            return "the discriminator no longer wins"
        return "the discriminator is no longer at chance" if guessed is False else None


class _Streak:
    """Counts consecutive logged updates with a property."""

    def __init__(self, patience: int):
        self._patience, self._count = patience, 0

    def changed(self, found: bool) -> bool | None:
        """Returns True when the property was found `patience` times, False when it ends after that, else None."""
        before, self._count = self._count, self._count + 1 if found else 0
        if self._count == self._patience:
            return True
        return False if before >= self._patience and not found else None
