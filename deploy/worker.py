"""One artefact in one fresh process, driven by JSON lines: what `deploy.benchmarking` measures in.

A process of its own gives each artefact its own peak memory and threads, and keeps TensorFlow out of
the numbers of the runtimes that do without it.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from deploy.formats import NoDeviceError
from kseg import tasks
from kseg.errors import KsegError

INPUTS = "inputs.npy"
WARM_UP_CALLS = 3
# A turn begins with calls that are not counted: the threads of the file before spin on for some
# milliseconds, and two that were asleep share a core until the scheduler has parted them.
WARM_UP_SECONDS = 0.15


def peak_bytes() -> int:
    """Return the peak resident memory of this process in bytes.

    Linux' VmHWM belongs to the program that runs; ru_maxrss would also count the parent before exec.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Worker:
    """Answers the commands `load`, `time`, `memory` and `score` for one artefact.

    Args:
        path: the artefact or `.keras` file.
        folder: holds `inputs.npy` (network inputs) and one `.pickle` per sample to score; the process
            that started this one has written them.
        size: `(height, width)` at which the network is run.
        threads: CPU threads; None: the runtime's choice.
    """

    def __init__(self, path: str, folder: str, size: tuple[int, int], threads: int | None) -> None:
        self._path, self._folder, self._size, self._threads = path, Path(folder), size, threads
        self._runtime: Any = None
        self._inputs = np.empty(0)
        self._turn = 0

    def load(self) -> dict[str, Any]:
        """Cold start: from nothing loaded to ready to run, the library's import included."""
        start = time.perf_counter()
        from deploy.metadata import load

        self._runtime = load(self._path, threads=self._threads)
        seconds = time.perf_counter() - start
        self._inputs = np.load(self._folder / INPUTS, mmap_mode="r")
        return {"load_s": seconds, "runtime": self._runtime.name}

    def _call(self) -> float:
        image = np.ascontiguousarray(self._inputs[self._turn % len(self._inputs)][None])
        self._turn += 1
        start = time.perf_counter()
        self._runtime.outputs(image)
        return time.perf_counter() - start

    def warm(self) -> dict[str, Any]:
        """Run a few calls that are not counted (compilation, caches)."""
        for _ in range(WARM_UP_CALLS):
            self._call()
        return {}

    def time(self, calls: int) -> dict[str, Any]:
        """Return the seconds of `calls` calls at batch 1, the machine settled on this file."""
        start = time.perf_counter()
        self._call()
        while time.perf_counter() - start < WARM_UP_SECONDS:
            self._call()
        return {"seconds": [self._call() for _ in range(calls)]}

    def memory(self) -> dict[str, Any]:
        """Return the peak resident memory up to now."""
        return {"peak_bytes": peak_bytes()}

    def score(self) -> dict[str, Any]:
        """Return the score of the model's task over the stored samples; None where there is none."""
        spec = self._runtime.spec
        task = tasks.find(spec.task)
        predictor = task.part("predictor")(self._runtime, size=self._size)
        scorer, _ = task.part("scorer")(spec, ())
        for file in sorted(self._folder.glob("sample-*.pickle")):
            sample = pickle.loads(file.read_bytes())
            scorer.add(sample, predictor([sample.image])[0])
        score = scorer.comparable()
        return {"score": score if math.isfinite(score) else None}


def serve(worker: Worker, commands: TextIO, answers: TextIO) -> None:
    """Answer one JSON line per command until the commands end."""
    for line in commands:
        values = json.loads(line)
        try:
            answer = getattr(worker, values.pop("do"))(**values)
        except KsegError as error:
            answer = {"error": str(error), "no_device": isinstance(error, NoDeviceError)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _main(arguments: list[str]) -> None:
    path, folder, size, threads = arguments
    # Libraries print to stdout; the answers get a channel of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    height, width = json.loads(size)
    serve(Worker(path, folder, (height, width), json.loads(threads)), sys.stdin, answers)


if __name__ == "__main__":
    _main(sys.argv[1:])
