"""Batches for `model.fit`, of a source or of arrays, and what a sample becomes as a training target."""
