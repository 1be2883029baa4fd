"""Batches for `model.fit`: of an opened source or of arrays, and what a sample becomes as a training target."""
