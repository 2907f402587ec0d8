"""Training: the loop, the updates, and what a run leaves on disk."""
