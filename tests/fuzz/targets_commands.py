"""The campaign through `kseg`'s commands: exit code 0, 1 or 2, one line on stderr for what is refused."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mutators
import numpy as np
import targets_artefacts
from cases import Kind, Place
from PIL import Image

FINE = (0, 1, 2)


@dataclass(frozen=True)
class Command:
    """One command over one spoiled file in a folder that is otherwise good.

    Args:
        kind: its name in tables.
        seed: kind of the file in `targets_artefacts.make_seeds`; empty: the spoiled text is an argument.
        file: where it goes in the folder.
        spoil: makes a bad one of a good one.
        words: the command's words; `{file}` is the spoiled file, `{text}` its content, `{here}` the folder.
    """

    kind: str
    seed: str
    file: str
    spoil: mutators.Spoil
    words: tuple[str, ...]


_BENCHMARK = {"rows": [{"path": "x/m.tflite", "load_s": 0.1, "p50_ms": 1.0, "peak_bytes": 5, "speedup": 2.0}]}
# What commands take as JSON, and the files that `make_seeds` does not make.
TEXTS: dict[str, bytes] = {
    "benchmark.json": json.dumps(_BENCHMARK).encode(),
    "model args": b'{"width": 0.1, "depth": 2, "encoder": "plain", "padding": "same", "dropout": 0.5}',
    "id map": b'{"255": 1, "3": 0}',
}

_INSPECT = ("inspect", "{file}")
_PREDICT = ("predict", "{file}", "{here}/images/val/a.png", "--out", "{here}/out")
_TRAIN = ("train", "--data", "{here}", "--epochs", "1", "--batch-size", "1", "--out", "{here}/trained")

COMMANDS = (
    Command("inspect keras", "keras", "m.keras", targets_artefacts.spoil_keras, _INSPECT),
    Command("inspect tflite", "tflite", "m.tflite", targets_artefacts.spoil_tflite, _INSPECT),
    Command("inspect onnx", "onnx", "m.onnx", targets_artefacts.spoil_onnx, (*_INSPECT, "--json")),
    Command("inspect engine", "engine", "m.engine", targets_artefacts.spoil_engine, _INSPECT),
    Command("predict keras", "keras", "m.keras", targets_artefacts.spoil_keras, _PREDICT),
    Command("predict tflite", "tflite", "m.tflite", targets_artefacts.spoil_tflite, _PREDICT),
    Command("predict onnx", "onnx", "m.onnx", targets_artefacts.spoil_onnx, _PREDICT),
    *(
        Command(f"report {name}", seed, f"run/{name}", spoil, ("report", "{here}/run", "--data", "{here}"))
        for name, seed, spoil in (
            ("run.json", "run.json", targets_artefacts.spoil_record),
            ("benchmark.json", "benchmark.json", targets_artefacts.spoil_record),
            ("history.csv", "history.csv", targets_artefacts.spoil_csv),
        )
    ),
    Command(
        "resume",
        "run.json",
        "run/run.json",
        targets_artefacts.spoil_record,
        ("train", "--resume", "--out", "{here}/run"),
    ),
    Command(
        "stages", "stages.json", "s.json", targets_artefacts.spoil_record, (*_TRAIN, "--stages", "{file}")
    ),
    Command(
        "rebuild",
        "model args",
        "a.json",
        targets_artefacts.spoil_record,
        ("rebuild", "{here}/run/model.keras", "--model-args", "{text}", "--out", "{here}/r.keras"),
    ),
    Command(
        "id map",
        "id map",
        "a.json",
        targets_artefacts.spoil_record,
        ("check-data", "{here}", "--id-map", "{text}"),
    ),
)


def make_data(here: Path) -> None:
    """Make a small data folder."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (here / kind / split).mkdir(parents=True, exist_ok=True)
        for name in ("a", "b"):
            mask = rng.integers(0, 2, targets_artefacts.SIZE, np.uint8)
            pixels = rng.integers(0, 255, (*targets_artefacts.SIZE, 3), np.uint8)
            Image.fromarray(pixels).save(here / "images" / split / f"{name}.png")
            Image.fromarray(mask).save(here / "labels" / split / f"{name}.png")
    (here / "classes.json").write_text(json.dumps({"classes": list(targets_artefacts.SPEC.classes)}))


def make_folder(here: Path, seeds: dict[str, bytes]) -> None:
    """Make a small data folder and a run folder."""
    make_data(here)
    (here / "run").mkdir()
    (here / "run" / "model.keras").write_bytes(seeds["network"])
    (here / "run" / "m.tflite").write_bytes(seeds["tflite"])
    for name in ("run.json", "history.csv"):
        (here / "run" / name).write_bytes(seeds[name])


def run(words: list[str], main: Callable[[list[str]], int]) -> tuple[int, str]:
    """Return the exit code of a command and what it printed on stderr."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(words)
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, said.getvalue()


def make(command: Command, seeds: dict[str, bytes], number: int) -> bytes:
    """Return what the `number`-th case of a command is given."""
    seed = {**seeds, **TEXTS}[command.seed]
    return command.spoil(seed, random.Random(f"{command.kind} {number}"))


def read(command: Command, bad: bytes, place: Place) -> str:
    """Run a command over something spoiled; return "read" or "refused".

    Raises:
        AssertionError: for another exit code than 0, 1 and 2, or a refusal without its line.
    """
    from kseg.cli.main import main

    here = place.folder
    place.once("folder", lambda: make_folder(here, place.seeds))
    path = here / command.file
    before = path.read_bytes() if path.exists() else None
    path.write_bytes(bad)
    text = bad.decode("utf-8", "replace").replace("\0", "0")
    try:
        code, said = run([w.format(file=path, text=text, here=here) for w in command.words], main)
    finally:
        path.unlink() if before is None else path.write_bytes(before)
        shutil.rmtree(here / "trained", ignore_errors=True)
    return verdict(code, said)


def verdict(code: int, said: str) -> str:
    """Return "read" for exit codes 0 and 1 (a gate failed), "refused" for 2; see `read`."""
    assert code in FINE, f"exit {code}: {said[-500:]}"
    assert "internal error" not in said, said[-500:]
    if code == 2:
        lines = [line for line in said.splitlines() if line.startswith("kseg")]
        assert lines, said[-500:]
    return "refused" if code == 2 else "read"


KINDS = tuple(
    Kind(
        f"kseg {command.kind}",
        functools.partial(make, command),
        functools.partial(read, command),
        Path(command.file).name,
        {"stages": 0.03, "resume": 0.3, "rebuild": 0.3}.get(command.kind.split()[0], 0.6),
    )
    for command in COMMANDS
)
