"""Fixtures of the deploy tests: one trained toy network and its exports."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import keras
import pytest
from toys import ToySample, build_toy, toy_sample, toy_spec, train_toy

import deploy


@pytest.fixture(scope="session")
def train_samples() -> list[ToySample]:
    return [toy_sample(seed) for seed in range(16)]


@pytest.fixture(scope="session")
def val_samples() -> list[ToySample]:
    return [toy_sample(seed) for seed in range(100, 110)]


@pytest.fixture(scope="session")
def toy() -> Any:
    """The trained toy, with its spec; the same in every session."""
    keras.utils.set_random_seed(0)
    model = train_toy(build_toy())
    model.spec = toy_spec()
    return model


@pytest.fixture(scope="session")
def exported_once(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exported")
    paths = {"tflite": folder / "toy.tflite", "onnx": folder / "toy.onnx"}
    for path in paths.values():
        deploy.export(toy, path, verify=False)
    return paths


@pytest.fixture
def exported(exported_once: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One float32 artefact per format that needs no GPU, by format name.

    The test's own copies: verification writes into them.
    """
    folder = tmp_path_factory.mktemp("copies")
    return {name: Path(shutil.copy(path, folder)) for name, path in exported_once.items()}
