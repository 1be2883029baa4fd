"""The proof itself: which tasks, on which device, and what is made of their results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu import engines, throughput
from benchmarks.gpu.children import Clock, work
from benchmarks.gpu.compare import check, compare_forward, compare_training
from benchmarks.gpu.networks import NETWORKS
from benchmarks.gpu.worker import read_arrays
from kseg.machine.backend import version

BACKENDS = ("tensorflow", "jax")
Say = Callable[[str], None]
Task = dict[str, Any]
Results = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Extent:
    """How much is done: the whole on a GPU, little in a rehearsal.

    Args:
        networks: titles of the networks.
        thin: take their thin forms.
        steps: training steps that are compared.
        side: of the images that are compared.
        speed_side: of the images that throughput is measured with.
        speed_batch: images per step, likewise.
        seconds: of timed steps per network and policy.
        matrix: side of the matrix product.
        epochs: that the engines' network is trained for.
        repeats: timed calls per engine.
    """

    networks: tuple[str, ...] = tuple(NETWORKS)
    thin: bool = False
    steps: int = 10
    side: int = 128
    speed_side: int = 256
    speed_batch: int = 32
    seconds: float = 4.0
    matrix: int = 8192
    epochs: int = 60
    repeats: int = 200


WHOLE = Extent()
REHEARSAL = Extent(
    thin=True, steps=5, side=64, speed_side=64, speed_batch=4, seconds=0.5, matrix=256, epochs=4, repeats=10
)


def installed(rehearsal: bool) -> list[str]:
    """Return the backends to prove here: JAX, which `dev` brings for the CPU, only with its CUDA plugin."""
    found = [name for name in BACKENDS if find_spec(name) is not None]
    with_cuda = rehearsal or version("jax-cuda12-plugin", "jax-cuda13-plugin")
    return [name for name in found if name != "jax" or with_cuda]


@dataclass
class Proof:
    """One run of the proof.

    Args:
        folder: where the workers write.
        extent: how much is done.
        rehearsal: the CPU stands in for the device.
        clock: when it must end.
        say: prints one line.
    """

    folder: Path
    extent: Extent
    rehearsal: bool
    clock: Clock
    say: Say

    def backend(self, name: str) -> dict[str, Any]:
        """Prove one backend; returns its part of the result."""
        self.say(f"{name}: looking at the device")
        seen = self._work([{"do": "look", "id": f"{name}-look"}], name)[f"{name}-look"]
        if not seen["done"]:
            return {"checks": [_failed(f"{name}: look", seen)]}
        machine = seen["machine"]
        if not machine["gpus_seen"] and not self.rehearsal:
            found = "; ".join(f"{item['text']}. {item['remedy']}" for item in machine["findings"])
            return {"machine": machine, "checks": [_failed(f"{name} sees a GPU", {"error": found or "none"})]}
        policies = list(seen["policies"])
        checks, losses = self._training(name, policies)
        rows, ceilings, speed_checks = self._speed(name, policies, machine)
        return {
            "machine": machine,
            "policies": policies,
            "training": losses,
            "throughput": rows,
            "matrix_product": ceilings,
            "checks": [*checks, *speed_checks],
        }

    def engines(self) -> dict[str, Any]:
        """Build and run engines where their libraries are; returns their part of the result."""
        why = engines.missing()
        if why:
            return {"not_run": why, "checks": []}
        self.say("engines: training, building, running")
        task = {"do": "engines", "id": "engines", "side": self.extent.side, "rehearsal": self.rehearsal}
        task |= {key: getattr(self.extent, key) for key in ("epochs", "repeats", "thin")}
        result = self._work([task], "tensorflow")["engines"]
        if not result["done"]:
            return {"checks": [_failed("engines", result)]}
        checks = [
            check(f"{row['file']}: mIoU lost, points", row["drop"], engines.MAX_DROP)
            for row in result["verified"]
            if row.get("drop") is not None
        ]
        checks += [_failed("engine", {"error": line}) for line in result["failures"]]
        if not self.rehearsal:  # in which it is trained too shortly to learn anything
            learned = result["rows"][0]["miou"]
            checks.append(check("the engines' network has learned: mIoU", learned, engines.LEAST_MIOU, True))
        return {"rows": result["rows"], "verified": result["verified"], "checks": checks}

    def _work(self, tasks: list[Task], backend: str, cpu: bool = False) -> Results:
        cpu = cpu or self.rehearsal
        return work(tasks, self.folder, backend=backend, cpu=cpu, clock=self.clock)

    def _training(
        self, backend: str, policies: list[str]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Train on the CPU, then on the device from the same weights, and compare."""
        extent = self.extent
        common = {"steps": extent.steps, "side": extent.side, "thin": extent.thin}

        def path(key: str) -> str:
            return str(self.folder / f"{key}.npz")

        keys = {title: f"{backend}-{number}" for number, title in enumerate(extent.networks)}
        on_cpu = [
            {
                "do": "train",
                "id": f"{key}-cpu",
                "network": title,
                "policy": "float32",
                "start": None,
                **common,
            }
            for title, key in keys.items()
        ]
        self.say(f"{backend}: training {len(on_cpu)} networks on the CPU")
        done = self._work(on_cpu, backend, cpu=True)
        on_device: list[Task] = []
        for title, key in keys.items():
            shared = {"network": title, "start": path(f"{key}-cpu"), **common}
            on_device.append({"do": "forward", "id": f"{key}-forward", **shared})
            on_device += [{"do": "train", "id": f"{key}-{p}", "policy": p, **shared} for p in policies]
        on_device.append({"do": "memory", "id": f"{backend}-memory"})
        self.say(f"{backend}: the same on the device, under {', '.join(policies)}")
        done |= self._work(on_device, backend)
        checks: list[dict[str, Any]] = []
        losses = []
        for title, key in keys.items():
            where = f"{backend}, {title}"
            lost = [name for name in (f"{key}-cpu", f"{key}-forward") if not done[name]["done"]]
            if lost:
                checks.append(_failed(where, done[lost[0]]))
                continue
            cpu = read_arrays(Path(path(f"{key}-cpu")))
            checks += compare_forward(
                where, read_arrays(Path(path(f"{key}-forward")))["logits"], cpu["logits"]
            )
            losses.append(
                {"network": title, "on": "cpu", "policy": "float32", "losses": cpu["losses"].tolist()}
            )
            for policy in policies:
                result = done[f"{key}-{policy}"]
                if not result["done"]:
                    checks.append(_failed(f"{where}, {policy}", result))
                    continue
                arrays = read_arrays(Path(path(f"{key}-{policy}")))
                checks += compare_training(f"{where}, {policy}", policy, arrays, cpu)
                told = {"losses": result["losses"], "loss_scaling": result["loss_scaling"]}
                # With one class only, that all pixels agree says nothing.
                told["classes_predicted"] = len(np.unique(arrays["logits"].argmax(-1)))
                losses.append({"network": title, "on": "device", "policy": policy, **told})
        checks += _memory(backend, done[f"{backend}-memory"])
        return checks, losses

    def _speed(
        self, backend: str, policies: list[str], machine: dict[str, Any]
    ) -> tuple[list[dict[str, Any]], dict[str, float], list[dict[str, Any]]]:
        """Measure the matrix product and training, and set them against each other."""
        extent = self.extent
        # XLA is always on in JAX, and never pays on TensorFlow's CPU.
        ways = [True] if backend == "jax" else [False] if self.rehearsal else [False, True]
        tasks: list[Task] = [
            {"do": "rate", "id": f"{backend}-rate-{p}", "policy": p, "side": extent.matrix, "repeats": 20}
            for p in policies
        ]
        for number, title in enumerate(extent.networks):
            for policy in policies:
                for jit in ways:
                    key = f"{backend}-{number}-speed-{policy}-{'xla' if jit else 'plain'}"
                    shape = {"side": extent.speed_side, "batch_size": extent.speed_batch}
                    way = {"network": title, "policy": policy, "jit": jit, "seconds": extent.seconds}
                    tasks.append({"do": "throughput", "id": key, "thin": extent.thin, **shape, **way})
        self.say(f"{backend}: measuring {len(tasks)} speeds")
        done = self._work(tasks, backend)
        checks = [_failed(task["id"], done[task["id"]]) for task in tasks if not done[task["id"]]["done"]]
        ceilings = {
            result["policy"]: result["tflops"]
            for task in tasks
            if task["do"] == "rate" and (result := done[task["id"]])["done"]
        }
        device = machine["devices"][0]["name"]
        rows = []
        for task in tasks:
            row = done[task["id"]]
            if task["do"] != "throughput" or not row["done"]:
                continue
            row = {key: value for key, value in row.items() if key != "done"}
            ceiling, listed = ceilings.get(row["policy"]), throughput.peak(device, row["policy"])
            row["share_of_matrix_product"] = row["tflops"] / ceiling if ceiling else None
            row["share_of_listed_peak"] = row["tflops"] / listed if listed else None
            rows.append(row)
            checks.append(
                check(f"{task['id']}: the loss is a number", float(row["finite"]), 1.0, at_least=True)
            )
        return rows, ceilings, checks


def _failed(name: str, result: dict[str, Any]) -> dict[str, Any]:
    return {"check": name, "passed": False, "error": result["error"]}


def _memory(backend: str, result: dict[str, Any]) -> list[dict[str, Any]]:
    """Small networks must leave most of the GPU free: the backend takes memory as it needs it."""
    known = [gpu for gpu in result.get("gpus", []) if gpu["memory"] and gpu["used"] is not None]
    return [
        check(f"{backend}: share of GPU memory in use", gpu["used"] / gpu["memory"], 0.6) for gpu in known[:1]
    ]
