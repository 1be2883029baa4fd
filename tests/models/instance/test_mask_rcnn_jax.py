"""Mask R-CNN on the JAX backend."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_it_trains_and_finds_on_jax() -> None:
    pytest.importorskip("jax")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("jax_mask_rcnn.py"))],
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "JAX_PLATFORMS": "cpu",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("passed\n")
