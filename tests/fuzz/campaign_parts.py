"""The campaign's other attacks: kills, full disks, one runtime for several threads."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import bombs
import numpy as np
import targets_commands
import targets_files
from cases import Kind, Place, Skipped, WrongResult, number_of, rng_of

THREADS, CALLS = 4, 25
_NET = ("--model", "unet", "--model-args", '{"width": 0.0625, "depth": 2}', "--batch-size", "1")


def _start(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "kseg", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _end(process: subprocess.Popen[str], code: int = 0) -> None:
    said = process.communicate()[1]
    assert process.returncode == code, f"exit {process.returncode}: {said[-1500:]}"


def _kill_at(process: subprocess.Popen[str], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    process.communicate()


def _weights(file: Path) -> list[np.ndarray]:
    from kseg import saving

    return saving.load(file).get_weights()


def _train(place: Place, out: Path) -> tuple[object, ...]:
    data = place.folder / "data"
    place.once("data", lambda: targets_commands.make_data(data))
    return ("train", "--data", data, "--out", out, "--epochs", 12, "--no-tensorboard", *_NET)


def _is_finished(run: Path) -> bool:
    record = run / "run.json"
    return record.is_file() and json.loads(record.read_text())["status"] == "finished"


def kill_training(bad: bytes, place: Place) -> str:
    """SIGKILL a training at some moment, and its resumption; the end must be that of an undisturbed one."""

    def undisturbed() -> tuple[list[np.ndarray], float]:
        out = place.folder / "whole"
        shutil.rmtree(out, ignore_errors=True)
        _end(_start(*_train(place, out)))  # fills the cache
        shutil.rmtree(out)
        start = time.monotonic()
        _end(_start(*_train(place, out)))
        return _weights(out / "model.keras"), time.monotonic() - start

    expected, seconds = place.once("undisturbed", undisturbed)
    rng, out = rng_of("kill training", bad), place.folder / "killed"
    shutil.rmtree(out, ignore_errors=True)
    _kill_at(_start(*_train(place, out)), rng.uniform(0.2, 1.0) * seconds)
    if rng.random() < 0.3 and (out / "run.json").is_file():
        _kill_at(_start("train", "--resume", "--out", out), rng.uniform(0.2, 1.0) * seconds)
    if not _is_finished(out):
        resumed = _start("train", "--resume", "--out", out)
        said = resumed.communicate()[1]
        if resumed.returncode == 2 and not (out / "history.csv").exists():
            _end(_start(*_train(place, out)))  # it was killed before there was anything to go on from
        else:
            assert resumed.returncode == 0, f"exit {resumed.returncode}: {said[-1500:]}"
    found = _weights(out / "model.keras")
    if not all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True)):
        most = max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))
        raise WrongResult(f"the weights after kill and --resume differ by up to {most}")
    left = [str(path) for path in out.rglob(".kseg-*")]
    if left:
        raise WrongResult(f"left behind: {left}")
    return "read"


def _answer(path: Path) -> np.ndarray:
    import deploy

    deploy.read_spec(path)
    runtime = deploy.load(path)
    size = runtime.input_size or targets_files.SIZE
    answer = np.array(
        runtime(np.linspace(-1, 1, size[0] * size[1] * 3, dtype=np.float32).reshape(1, *size, 3))
    )
    runtime.close()
    return answer


def kill_export(bad: bytes, place: Place) -> str:
    """SIGKILL an export over an older file: that one stays, or the new one is whole."""
    rng = rng_of("kill export", bad)
    name = rng.choice(("m.tflite", "m.onnx"))
    model, out = place.folder / "network.keras", place.folder / name
    model.write_bytes(place.seeds["network"])
    words = ("export", model, "--no-verify", "--out", out)

    def whole() -> tuple[bytes, float]:
        start = time.monotonic()
        _end(_start(*words))
        return out.read_bytes(), time.monotonic() - start

    old, seconds = place.once(name, whole)
    out.write_bytes(old)
    expected = place.once(f"answer of {name}", lambda: _answer(out))
    _kill_at(_start(*words), rng.uniform(0.3, 1.0) * seconds)
    if not np.array_equal(_answer(out), expected):
        raise WrongResult("the file answers otherwise")
    return "read"


# In one process, because importing TensorFlow is what costs. After each command: code, stderr, files left.
_ON_DISK = """
import contextlib, io, json, pathlib, shutil, subprocess, sys
from kseg.cli.main import main

disk = pathlib.Path(sys.argv[1])
for size, arguments in json.loads(sys.argv[2]):
    subprocess.run(["mount", "-o", f"remount,size={size}k", str(disk)], check=True)
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(arguments)
        except SystemExit as stop:
            code = stop.code
    left = [str(path.relative_to(disk)) for path in disk.rglob("*") if path.is_file()]
    print(json.dumps([code, said.getvalue(), left]))
    for entry in disk.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
"""


def _private_disk(folder: Path) -> list[str]:
    """Return the start of a command that sees a tmpfs at `folder`, gone when it ends."""
    who = [] if os.geteuid() == 0 else ["--map-root-user"]
    script = 'mount -t tmpfs -o size=64k tmpfs "$0" && exec "$@"'
    start = ["unshare", *who, "--mount", "sh", "-c", script, str(folder)]
    try:
        tried = subprocess.run([*start, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise Skipped(f"no private mount is possible here: {error}") from error
    if tried.returncode:
        raise Skipped(f"no private mount is possible here: {tried.stderr.strip()}")
    return start


def full_disk(bad: bytes, place: Place) -> str:
    """Every command that writes, on a disk of 4 to 40 KiB: done, or one line and no half file."""
    here, disk = place.folder / "good", place.folder / "disk"
    start = _private_disk(place.once("disk", lambda: disk.mkdir() or disk))
    place.once("folder", lambda: here.mkdir() or targets_commands.make_folder(here, place.seeds))
    rng = rng_of("full disk", bad)
    model, tflite = str(here / "run/model.keras"), str(here / "run/m.tflite")
    commands = {
        "export tflite": ["export", model, "--no-verify", "--out", f"{disk}/m.tflite"],
        "export onnx": ["export", model, "--no-verify", "--out", f"{disk}/m.onnx"],
        "predict": ["predict", tflite, f"{here}/images/val", "--out", f"{disk}/p"],
        "report": ["report", f"{here}/run", "--data", str(here), "--out", f"{disk}/r.html"],
        "rebuild": ["rebuild", model, "--model-args", "{}", "--out", f"{disk}/r.keras"],
        "convert": ["convert-data", str(here), "--format", "kseg", "--out", f"{disk}/c"],
        "evaluate": ["evaluate", tflite, "--data", str(here), "--out", f"{disk}/e.json"],
        "benchmark": ["benchmark", tflite, "--repeats", "2", "--out", f"{disk}/b.json"],
        "train": [str(word) for word in _train(place, disk / "run")],
    }
    asked = [(rng.choice((4, 8, 12, 24, 40)), words) for words in commands.values()]
    command = [*start, sys.executable, "-c", _ON_DISK, str(disk), json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert len(lines) == len(commands), f"exit {done.returncode}, {lines[-1:]}: {done.stderr[-2000:]}"
    refused = False
    for name, line in zip(commands, lines, strict=True):
        code, said, left = json.loads(line)
        targets_commands.verdict(code, said)
        refused |= code == 2
        if any(".kseg-" in file for file in left):
            raise WrongResult(f"{name}: left behind: {left}")
        if code == 2 and name.split()[0] not in ("predict", "train") and left:
            raise WrongResult(f"{name}: refused ({said[-300:]}), and left {left}")
    return "refused" if refused else "read"


def _engine(place: Place) -> Any:
    """A runtime on a fake device, made as the tests of runtimes make it."""
    sys.path.insert(0, str(targets_files.TESTS / "deploy"))
    import fake_tensorrt

    import deploy
    from deploy.tensorrt import container, runtime
    from kseg.spec import Spec

    size = (16, 24)
    trt, cuda = (
        fake_tensorrt.fake_tensorrt(fake_tensorrt.VERSIONS[0], shape=(-1, *size, 3)),
        fake_tensorrt.fake_cuda(),
    )
    library, bindings = runtime.library, runtime.bindings
    runtime.library, runtime.bindings = (lambda name: trt), (lambda: cuda)  # type: ignore[assignment]
    try:
        path = place.folder / "fake.engine"
        made_by = {"module": trt.__name__, "version": trt.__version__, "gpu": "NVIDIA Fake (SM89)"}
        spec = Spec(classes=("a", "b", "c"), input_size=size)
        container.write(path, fake_tensorrt.PLAN, build=made_by, spec=spec)
        return deploy.load(path)
    finally:
        runtime.library, runtime.bindings = library, bindings


def _runtime(kind: str, place: Place) -> Any:
    import deploy

    if kind == "engine":
        return _engine(place)
    path = place.folder / f"m.{kind}"
    path.write_bytes(place.seeds[kind])
    return deploy.load(path)


def share(kind: str, bad: bytes, place: Place) -> str:
    """Four threads call one runtime; every answer must be that of a call alone."""
    runtime = place.once("runtime", lambda: _runtime(kind, place))
    seed = rng_of(f"threads {kind}", bad).randrange(2**32)
    images = np.random.default_rng(seed).standard_normal((THREADS, 1, 16, 24, 3)).astype(np.float32)
    expected = [np.array(runtime(image)) for image in images]
    wrong: list[str] = []
    faults: list[BaseException] = []

    def work(number: int) -> None:
        held: list[Any] = []
        try:
            for _ in range(CALLS):
                # An answer that is still held must not change when others are asked for.
                held = [*held[-2:], runtime(images[number])]
                wrong.extend("x" for answer in held if not np.allclose(answer, expected[number], atol=1e-5))
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    if wrong:
        raise WrongResult(f"{len(wrong)} answers were another's")
    return "read"


# What a kind with share 1 has of 10,000 cases, roughly.
_CASES = 220

KINDS = (
    *bombs.KINDS,
    *(
        Kind(f"threads {name}", number_of, functools.partial(share, name), share=25 / _CASES)
        for name in ("keras", "tflite", "onnx", "engine")
    ),
    Kind("kill export", number_of, kill_export, share=10 / _CASES, seconds=300),
    Kind("full disk", number_of, full_disk, share=4 / _CASES, seconds=300),
    Kind("kill training", number_of, kill_training, share=10 / _CASES, seconds=600),
)
