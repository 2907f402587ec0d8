"""Pure functions of arrays: resizing, value ranges, luma."""
