"""Utilities for all subpackages: errors, messages, table lookup, atomic file writing, processes, devices."""
