"""Evaluation of super-resolution methods on test sets: metrics, scoring, tables and an HTML report."""
