"""The config of a training run: all keys with meaning, unit and range; recipes; overrides; checks before the run."""
