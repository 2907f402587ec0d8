"""Training: the loop, the updates, checkpoints, validation, and the other files of a run."""
