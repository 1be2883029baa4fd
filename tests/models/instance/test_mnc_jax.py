"""MNC, and with it what it shares with Faster R-CNN, on the JAX backend."""

from __future__ import annotations

from pathlib import Path

from jax_process import run_on_jax


def test_it_trains_on_jax() -> None:
    assert run_on_jax(Path(__file__).with_name("jax_cascade.py")).endswith("passed\n")
