"""Transforms of image, mask and instances together, and the one place of normalisation."""
