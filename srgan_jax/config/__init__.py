"""The config of a training run: every key with its meaning, unit and range, and the checks before anything runs."""
