"""Programs compiled for hardware that need not be there: what they hold, and the time they need at least."""
