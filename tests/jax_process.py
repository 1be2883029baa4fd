"""A script in a process of its own, on the JAX backend."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def run_on_jax(script: Path) -> str:
    """Return what the script printed; it must end well within a quarter of an hour."""
    pytest.importorskip("jax")
    done = subprocess.run(
        [sys.executable, str(script)],
        # Compiling is nine tenths of the time; what is compiled runs for milliseconds.
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "JAX_PLATFORMS": "cpu",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        },
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
