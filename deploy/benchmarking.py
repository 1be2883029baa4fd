"""Measure artefacts side by side: size, load time, latency, memory, score, in one interleaved run.

Machines change speed from minute to minute, so the artefacts take turns: every round times a few
calls of each, and ratios compare what was measured in the same minutes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import importlib.metadata
import itertools
import json as json_module
import math
import os
import pickle
import platform
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploy import formats
from deploy.exported import exported
from deploy.images import Images, network_inputs, spread
from deploy.metadata import read_spec
from deploy.plots import check_path, plot_benchmark
from deploy.worker import INPUTS
from kseg import tasks
from kseg.checks import whole
from kseg.data import Sample
from kseg.errors import ArtefactError, UsageError
from kseg.files import write_json
from kseg.machine import host
from kseg.progress import Progress, silent
from kseg.spec import Spec

CALLS_PER_ROUND = 5
_OF_A_SAMPLE = tuple(field.name for field in dataclasses.fields(Sample))
MEASURED = "measured"
NOT_RUN = "not run: no CUDA device"
TIMED_IMAGES = 8
# A figure is within 5 % of what the library alone takes: smaller differences are no ground for advice.
CLEAR = 1.05


class _NoDevice(Exception):
    """The worker's machine cannot run its artefact."""


class _Process:
    """A worker process and its line of commands."""

    def __init__(self, path: Path, folder: Path, spec: Spec, threads: int | None) -> None:
        self.path = path
        # Lives as long as the process; `close` closes it.
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_MODULE_LOADING": "LAZY"}
        if threads is not None:
            for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
                environment[name] = str(threads)
        size, own = json_module.dumps(spec.input_size), json_module.dumps(threads)
        arguments = [str(path), str(folder), size, spec.resize, own]
        self._child = subprocess.Popen(
            [sys.executable, "-m", "deploy.worker", *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def ask(self, command: str, **values: Any) -> dict[str, Any]:
        """Send one command and return its answer."""
        commands, answers = self._child.stdin, self._child.stdout
        if commands is None or answers is None:
            raise AssertionError("the child was started with pipes")
        line = ""
        with contextlib.suppress(BrokenPipeError):
            commands.write(json_module.dumps({"do": command, **values}) + "\n")
            commands.flush()
            line = answers.readline()
        if not line:
            code = self._child.wait()
            self._log.seek(0)
            last = self._log.read().strip().splitlines()[-1:] or ["it said nothing"]
            raise ArtefactError(f"The process that ran '{self.path}' ended with code {code}: {last[0]}")
        answer: dict[str, Any] = json_module.loads(line)
        if answer.get("no_device"):
            raise _NoDevice(answer["error"])
        if "error" in answer:
            raise ArtefactError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout, self._log):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def _as_run(paths: Sequence[Path]) -> list[Spec]:
    """Return each file's spec; a `.keras` file is run at the first artefact's size, by its rule."""
    specs = [read_spec(path) for path in paths]
    models = [path.suffix == formats.KERAS_SUFFIX for path in paths]
    fixed = next((spec for spec, model in zip(specs, models, strict=True) if not model), None)
    found = []
    for path, spec, model in zip(paths, specs, models, strict=True):
        if model and fixed is not None:
            spec = spec.replace(input_size=fixed.input_size, resize=fixed.resize)
        if spec.input_size is None:
            raise UsageError(
                f"'{path}' fixes no input size: benchmark it together with an artefact, or export it."
            )
        found.append(spec)
    return found


def _prepare(folder: Path, images: Images | None, spec: Spec, seed: int) -> None:
    """Write what a worker needs: network inputs, and the samples to score."""
    folder.mkdir()
    size = _size(spec)
    if images is None:
        noise = np.random.default_rng(seed).standard_normal(
            (TIMED_IMAGES, *size, tasks.find(spec.task).channels)
        )
        np.save(folder / INPUTS, noise.astype(np.float32))
        return
    _, samples = tasks.find(spec.task).part("scorer")(spec, images.samples)
    judged = dataclasses.replace(images, samples=samples)
    inputs = list(itertools.islice(network_inputs(judged, spec, size), TIMED_IMAGES))
    np.save(folder / INPUTS, np.stack(inputs))
    for index, sample in enumerate(judged):
        # The worker may not be able to import the caller's own class of samples.
        held = {name: getattr(sample, name) for name in _OF_A_SAMPLE if hasattr(sample, name)}
        plain = types.SimpleNamespace(**held)
        (folder / f"sample-{index:06d}.pickle").write_bytes(pickle.dumps(plain))


def _size(spec: Spec) -> tuple[int, int]:
    if spec.input_size is None:
        raise AssertionError("`_as_run` gives every spec a size")
    return spec.input_size


def _start_row(path: Path, spec: Spec) -> dict[str, Any]:
    row, made = formats.find(path), exported(spec, path)
    return {
        "path": str(path),
        "format": (made.format or row.name) if row else "keras",
        "precision": made.precision or "float32",
        "verify": made.verify.status if row else None,
        "size": list(_size(spec)),
        "bytes": path.stat().st_size,
        "status": MEASURED,
    }


def _time(processes: dict[int, _Process], repeats: int, progress: Progress | None) -> dict[int, list[float]]:
    """Time calls in turns: every other round goes backwards, so that no one is always first."""
    rounds = math.ceil(repeats / CALLS_PER_ROUND)
    seconds: dict[int, list[float]] = {index: [] for index in processes}
    turns = (progress or silent)(range(rounds), rounds, "Timing in turns")
    for turn in turns:
        order = list(processes)
        for index in reversed(order) if turn % 2 else order:
            seconds[index].extend(processes[index].ask("time", calls=CALLS_PER_ROUND)["seconds"])
    return seconds


def _latency(seconds: list[float]) -> dict[str, float]:
    p50, p95 = np.percentile(seconds, [50, 95])
    return {
        "p50_ms": 1000 * float(p50),
        "p95_ms": 1000 * float(p95),
        "images_per_s": len(seconds) / sum(seconds),
    }


def _add_ratios(rows: list[dict[str, Any]]) -> None:
    """Compare every measured row with the first that was measured."""
    first = next((row for row in rows if row["status"] == MEASURED), None)
    for row in rows:
        if first is None or row["status"] != MEASURED:
            continue
        row["speedup"] = first["p50_ms"] / row["p50_ms"]
        row["smaller"] = first["bytes"] / row["bytes"]


def _warnings(rows: list[dict[str, Any]]) -> list[str]:
    measured = [row for row in rows if row["status"] == MEASURED]
    found = []
    for row in measured:
        floats = [
            other
            for other in measured
            if other["format"] == row["format"] and other["precision"].startswith("float")
        ]
        if row["precision"] != "int8" or not floats:
            continue
        fastest = min(floats, key=lambda other: other["p50_ms"])
        if row["p50_ms"] > CLEAR * fastest["p50_ms"]:
            found.append(
                f"{Path(row['path']).name}: int8 is slower than {fastest['precision']} here "
                f"({row['p50_ms']:.1f} ms against {fastest['p50_ms']:.1f} ms); "
                f"ship {Path(fastest['path']).name}"
            )
    if len({tuple(row["size"]) for row in measured}) > 1:
        found.append("the artefacts have different input sizes: their times are not like for like")
    return found


def _setup(
    task: tasks.Task, images: Images | None, repeats: int, threads: int | None, seed: int
) -> dict[str, Any]:
    versions = {}
    for name in (
        "tensorflow-cpu",
        "tensorflow",
        "keras",
        "ai-edge-litert",
        "onnxruntime",
        "tensorrt",
        "tensorrt-rtx",
    ):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": platform.platform(),
        "processor": host.processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "versions": versions,
        "repeats": repeats,
        "seed": seed,
        "batch": 1,
        "source": None if images is None else images.source,
        "split": None if images is None else images.split,
        "images": 0 if images is None else len(images),
        "metric": task.headline,
        "label": task.label,
    }


@contextlib.contextmanager
def _workers(
    paths: Sequence[Path], folders: Sequence[Path], specs: Sequence[Spec], threads: int | None
) -> Iterator[list[_Process]]:
    started: list[_Process] = []
    try:
        for path, folder, spec in zip(paths, folders, specs, strict=True):
            started.append(_Process(path, folder, spec, threads))
        yield started
    finally:
        for process in started:
            process.close()


def benchmark(
    paths: Sequence[str | os.PathLike[str]],
    *,
    data: Any = None,
    split: str | None = None,
    limit: int | None = 32,
    repeats: int = 50,
    threads: int | None = None,
    seed: int = 0,
    json: str | os.PathLike[str] | None = None,
    plot: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure model files side by side.

    Each file runs in a fresh process. Latency is at batch 1, without pre- and post-processing, after
    warm-up, in interleaved rounds. Ratios are relative to the first file.

    Args:
        paths: `.keras` files and artefacts. An engine on a machine without a GPU is listed, not run.
        data: images to run on and truth to score against: folder, `tfds:NAME`, source, or a sequence of
            samples. None: seeded noise, no score.
        split: default: `val`, else `test`, else `train`.
        limit: score on at most so many images, spread evenly; None: all.
        repeats: timed calls per file (rounded up to whole rounds of 5).
        threads: CPU threads per file; None: each runtime's choice.
        seed: of the noise.
        json: where to write the result, too.
        plot: where to draw it (`.png` or `.svg`), too.
        progress: wraps the rounds.

    Returns:
        `rows` (one per file: `path`, `format`, `precision`, `status`, `bytes`, `load_s`: cold start with
        imports, `p50_ms`, `p95_ms`, `images_per_s`, `peak_bytes`: resident memory, the score of its
        task in 0-1 under its name (`miou`: over the classes in the truth), `speedup`, `smaller`), `warnings`,
        and `setup` (machine, versions, data, `metric` and its `label`).

    Raises:
        UsageError, DataError, ArtefactError: if a file or the data cannot be used.
    """
    files = [Path(path) for path in paths]
    if not files:
        raise UsageError("Benchmark needs at least one model file. Received: none")
    for name, value in (("repeats", repeats), ("threads", threads), ("limit", limit)):
        if value is not None:
            whole(value, "Argument", name)
    if plot is not None:
        check_path(plot)
    specs = _as_run(files)
    images = None if data is None else spread(data, split=split, limit=limit)
    rows = [_start_row(*entry) for entry in zip(files, specs, strict=True)]
    with tempfile.TemporaryDirectory(prefix="kseg-benchmark-") as root:
        folders = [Path(root) / str(index) for index in range(len(files))]
        for folder, spec in zip(folders, specs, strict=True):
            _prepare(folder, images, spec, seed)
        with _workers(files, folders, specs, threads) as processes:
            _measure(processes, rows, specs, repeats, images is not None, progress)
    _add_ratios(rows)
    result = {
        "rows": rows,
        "warnings": _warnings(rows),
        "setup": _setup(tasks.find(specs[0].task), images, repeats, threads, seed),
    }
    if json is not None:
        write_json(json, result)
    if plot is not None:
        plot_benchmark(result, plot)
    return result


def _measure(
    processes: Sequence[_Process],
    rows: list[dict[str, Any]],
    specs: Sequence[Spec],
    repeats: int,
    has_truth: bool,
    progress: Progress | None,
) -> None:
    """Load all, time all in turns, read memory, then score: scoring must not count as memory."""
    able: dict[int, _Process] = {}
    for index, process in enumerate(processes):
        try:
            rows[index].update(process.ask("load"))
        except _NoDevice:
            rows[index]["status"] = NOT_RUN
            continue
        process.ask("warm")
        able[index] = process
    for index, seconds in _time(able, repeats, progress).items():
        rows[index].update(_latency(seconds))
    for index, process in able.items():
        rows[index].update(process.ask("memory"))
    if has_truth:
        for index, process in able.items():
            rows[index][tasks.find(specs[index].task).headline] = process.ask("score")["score"]
