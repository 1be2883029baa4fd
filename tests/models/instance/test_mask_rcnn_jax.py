"""Mask R-CNN on the JAX backend."""

from __future__ import annotations

from pathlib import Path

from jax_process import run_on_jax


def test_it_trains_and_finds_on_jax() -> None:
    assert run_on_jax(Path(__file__).with_name("jax_mask_rcnn.py")).endswith("passed\n")
