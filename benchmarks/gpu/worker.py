"""One process on one device with one backend: does a list of tasks, writes each result when it has it.

    python -m benchmarks.gpu.worker TASKS.json FOLDER

A process of its own gives each backend and each device its own settings, and loses only its own work when it
dies or runs out of time.
"""

from __future__ import annotations

import gc
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kseg.files import atomic, write_json


def write_arrays(path: Path, groups: dict[str, Any]) -> None:
    """Write arrays and lists of arrays."""
    flat = {}
    for name, value in groups.items():
        flat |= {f"{name}/{i}": v for i, v in enumerate(value)} if isinstance(value, list) else {name: value}
    with atomic(path) as temporary, open(temporary, "wb") as handle:
        np.savez(handle, allow_pickle=False, **flat)


def read_arrays(path: Path) -> dict[str, Any]:
    """Return what `write_arrays` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        groups: dict[str, Any] = {}
        for name in stored.files:
            group, slash, index = name.partition("/")
            if slash:
                groups.setdefault(group, {})[int(index)] = stored[name]
            else:
                groups[group] = stored[name]
    return {
        name: [value[i] for i in range(len(value))] if isinstance(value, dict) else value
        for name, value in groups.items()
    }


def look(task: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Say what this process computes on."""
    from kseg.machine.report import examine
    from kseg.training.precision import candidates

    machine = examine()
    seen = {**machine.to_dict(), "gpus_seen": len(machine.seen.gpus)}
    return {"machine": seen, "policies": list(candidates(machine.seen))}


def train(task: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train one network under one policy; its arrays go into a file beside the result."""
    from benchmarks.gpu.networks import trained

    start = read_arrays(Path(task["start"]))["before"] if task["start"] else None
    done = trained(
        task["network"],
        task["policy"],
        steps=task["steps"],
        side=task["side"],
        thin=task["thin"],
        start=start,
    )
    arrays = {key: getattr(done, key) for key in ("losses", "before", "after", "logits")}
    write_arrays(folder / f"{task['id']}.npz", arrays)
    return {"losses": done.losses.tolist(), "loss_scaling": done.scaled}


def forward(task: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run one network with the weights that another process has trained."""
    from benchmarks.gpu.networks import logits_of

    weights = read_arrays(Path(task["start"]))["after"]
    logits = logits_of(task["network"], weights, task["side"], task["thin"])
    write_arrays(folder / f"{task['id']}.npz", {"logits": logits})
    return {}


def rate(task: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Measure the matrix product."""
    from benchmarks.gpu.throughput import matrix_rate

    return {"policy": task["policy"], "tflops": matrix_rate(task["policy"], task["side"], task["repeats"])}


def throughput(task: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Measure the speed of training."""
    from benchmarks.gpu.throughput import measure

    return measure(
        task["network"],
        task["policy"],
        task["jit"],
        side=task["side"],
        batch_size=task["batch_size"],
        seconds=task["seconds"],
        thin=task["thin"],
    )


def engines(task: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Build, run and score engines."""
    from benchmarks.gpu.engines import measure

    keys = ("side", "epochs", "repeats", "thin", "rehearsal")
    return measure(folder, **{key: task[key] for key in keys}, say=lambda line: print(line, file=sys.stderr))


def memory(task: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Say how much of the device's memory is in use now, after the tasks before: growth must be on."""
    from kseg.machine import nvidia

    return {"gpus": [{"memory": gpu.memory_bytes, "used": gpu.used_bytes} for gpu in nvidia.look().gpus]}


TASKS: dict[str, Callable[[dict[str, Any], Path], dict[str, Any]]] = {
    work.__name__: work for work in (look, train, forward, rate, throughput, engines, memory)
}


def main(tasks: Path, folder: Path) -> None:
    """Do the tasks; an error of one is its result, and the next one begins."""
    for task in json.loads(tasks.read_text()):
        try:
            result = {"done": True, **TASKS[task["do"]](task, folder)}
        except Exception as error:
            traceback.print_exc()
            lines = str(error).strip().splitlines() or [""]
            result = {"done": False, "error": f"{type(error).__name__}: {lines[0][:300]}"}
        write_json(folder / f"{task['id']}.json", result)
        gc.collect()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
