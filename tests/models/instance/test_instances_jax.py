"""The instance networks on the JAX backend, in one process of its own."""

from __future__ import annotations

from pathlib import Path

from jax_process import run_on_jax


def test_they_train_and_find_on_jax() -> None:
    printed = run_on_jax(Path(__file__).with_name("jax_instances.py"))
    assert printed.splitlines() == ["passed MaskRCNN", "passed MNC", "passed StarDist"]
