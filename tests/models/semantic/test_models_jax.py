"""Every network on the JAX backend, in one process of its own."""

from __future__ import annotations

from pathlib import Path

from jax_battery import SAME_LAYERS
from jax_process import run_on_jax

from kseg.models import names


def test_every_network_runs_on_jax() -> None:
    printed = run_on_jax(Path(__file__).with_name("jax_battery.py"))
    checked = sorted(line.removeprefix("passed ") for line in printed.splitlines())
    assert checked == sorted({*names("semantic")} - {*SAME_LAYERS})
