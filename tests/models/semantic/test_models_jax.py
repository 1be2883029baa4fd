"""Every network on the JAX backend, in one process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from jax_battery import SAME_LAYERS

from kseg.models import names


def test_every_network_runs_on_jax() -> None:
    pytest.importorskip("jax")
    script = Path(__file__).with_name("jax_battery.py")
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
    checked = sorted(line.removeprefix("passed ") for line in done.stdout.splitlines())
    assert checked == sorted({*names("semantic")} - {*SAME_LAYERS})
