"""Training data: image folders as tfds data sets, random sampling, batches, and the two sources of windows."""
