"""Scores of upscalers over sets of images: metrics, tables, a page with sliders."""
