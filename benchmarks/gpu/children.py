"""Start the workers: one backend, one device, a list of tasks, a deadline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kseg.files import write_json
from kseg.machine.report import without_paths

ROOT = Path(__file__).resolve().parents[2]
# On the CPU, XLA's compilation takes nine tenths of the time; what is compiled runs for seconds.
ON_CPU = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
NOT_DONE = "not done: out of time"


@dataclass
class Clock:
    """The time that the whole proof may take.

    Args:
        ends: on `time.monotonic()`.
    """

    ends: float

    @classmethod
    def of(cls, minutes: float) -> Clock:
        """Return a clock that ends in `minutes` from now."""
        return cls(time.monotonic() + 60 * minutes)

    def left(self) -> float:
        """Return the seconds that are left, at least 0."""
        return max(0.0, self.ends - time.monotonic())


def environment(backend: str, cpu: bool) -> dict[str, str]:
    """Return the variables of a worker's process."""
    from kseg.machine.backend import GROWTH

    found = {**os.environ, **GROWTH, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    found["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**found, **ON_CPU} if cpu else found


def work(
    tasks: list[dict[str, Any]], folder: Path, *, backend: str, cpu: bool, clock: Clock
) -> dict[str, dict[str, Any]]:
    """Do the tasks in one process and return their results by `id`; what it did not come to says so."""
    if not tasks:
        return {}
    name = f"{backend}-{'cpu' if cpu else 'device'}-{tasks[0]['id']}"
    listed, log = folder / f"{name}-tasks.json", folder / f"{name}.log"
    write_json(listed, tasks)
    with open(log, "w") as said:
        try:
            subprocess.run(
                [sys.executable, "-m", "benchmarks.gpu.worker", listed, folder],
                env=environment(backend, cpu),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                timeout=clock.left(),
                check=False,
                cwd=ROOT,
            )
            lost = _last_line(log)
        except subprocess.TimeoutExpired:
            lost = NOT_DONE
    results = {}
    for task in tasks:
        file = folder / f"{task['id']}.json"
        known = file.is_file()
        results[task["id"]] = json.loads(file.read_text()) if known else {"done": False, "error": lost}
    return results


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
    return f"the process ended before: {without_paths(lines[-1])[:300]}"
