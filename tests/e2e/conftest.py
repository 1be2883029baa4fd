"""One tiny trained run and its exports, made once and shared by all end-to-end tests."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
from typed import Kseg, Ran, make_data, training

from kseg.cli.main import main

FORMATS = {"tflite": "ai_edge_litert", "onnx": "onnxruntime", "engine": "tensorrt_rtx"}


def _run(*arguments: object) -> int:
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:  # argparse's way
        return int(stop.code or 0)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("e2e_cache")


@pytest.fixture(autouse=True)
def own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSEG_CACHE", str(cache))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("e2e_data") / "squares")


@pytest.fixture(scope="session")
def run(data: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a training on every kind of image that is fit."""
    out = tmp_path_factory.mktemp("e2e_run") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KSEG_CACHE", str(cache))
        assert _run(*training(data, out)) == 0
    return out


@pytest.fixture(scope="session")
def files(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each kind: keras, tflite, onnx and, where TensorRT is installed, engine."""
    folder = tmp_path_factory.mktemp("e2e_files")
    made = {"keras": Path(shutil.copy(run / "model.keras", folder))}
    for kind, module in FORMATS.items():
        if importlib.util.find_spec(module) is not None:
            made[kind] = folder / f"model.{kind}"
            assert _run("export", made["keras"], "--no-verify", "--out", made[kind]) == 0
    return made


@pytest.fixture
def kseg(capfd: pytest.CaptureFixture[str]) -> Kseg:
    """Run a command in this process: `kseg("inspect", path) -> Ran`."""

    def call(*arguments: object) -> Ran:
        capfd.readouterr()
        code = _run(*arguments)
        printed = capfd.readouterr()
        return Ran(code, printed.out, printed.err)

    return call
