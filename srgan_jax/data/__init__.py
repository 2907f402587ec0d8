"""Training data: photo folders as tfds data sets, and samples by their global index."""
