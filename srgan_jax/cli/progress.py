"""The progress bar of `srgan-jax upscale`."""

FORMAT = "{{percentage:3.0f}}% |{{bar}}| {{n:.{digits}f}} of {{total:.{digits}f}} megapixels, {{remaining}} left"


class Bar:
    """Shows the number of finished pixels on a terminal; appears when their total is known."""

    def __init__(self):
        self._bar = None

    def __call__(self, done: int, total: int) -> None:
        """Draws `done` of `total` pixels."""
        from tqdm import tqdm

        if self._bar is None:
            digits = 1 if total >= 1e7 else 2
            self._bar = tqdm(total=total / 1e6, bar_format=FORMAT.format(digits=digits), disable=None, leave=False)
        self._bar.update(done / 1e6 - self._bar.n)

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()
