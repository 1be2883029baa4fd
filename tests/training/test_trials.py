"""What a run settles by trying: batch size and XLA; what is said without memory; float16's loss scaling."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from test_train import assert_same_training, config, make_folder

from kseg.errors import UsageError
from kseg.machine import advice
from kseg.machine.backend import Backend, Device
from kseg.training import compiled, precision, settled, trainer, trials
from kseg.training.batch_size import Found, OutOfMemoryError
from kseg.training.config import TrainConfig
from kseg.training.trainer import train

T4 = Backend("tensorflow", devices=(Device("NVIDIA T4", "gpu", (7, 5)),))
A100 = Backend("tensorflow", devices=(Device("NVIDIA A100", "gpu", (8, 0)),))


class ResourceExhaustedError(Exception):
    """Named as TensorFlow's."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("data") / "squares")


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KSEG_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.parametrize(
    ("capability", "policies"),
    [
        ((6, 1), ("float32",)),
        ((7, 5), ("float32", "mixed_float16")),
        ((8, 0), ("float32", "mixed_bfloat16")),
        ((9, 0), ("float32", "mixed_bfloat16")),
    ],
)
@pytest.mark.parametrize("name", ["tensorflow", "jax"])
def test_bfloat16_from_ampere_on_and_float16_before(
    name: str, capability: tuple[int, int], policies: tuple[str, ...]
) -> None:
    assert precision.candidates(Backend(name, devices=(Device("a GPU", "gpu", capability),))) == policies


def test_xla_is_timed_on_tensorflows_gpu_alone() -> None:
    assert precision.compilation(A100) is None
    on_cpu = precision.compilation(Backend("tensorflow", devices=(Device("CPU", "cpu"),)))
    assert on_cpu is not None
    assert not on_cpu.jit
    on_jax = precision.compilation(Backend("jax", devices=T4.devices))
    assert on_jax is not None
    assert on_jax.jit


def small(jit: bool) -> keras.Model:
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, padding="same")])
    model.compile("sgd", "mse", jit_compile=jit)
    return model


BATCH = (np.zeros((2, 8, 8, 3), "float32"), np.zeros((2, 8, 8, 4), "float32"))


def test_xla_is_timed_on_a_real_network() -> None:
    choice = precision.choose_compilation(small, BATCH, seconds=0.0)
    assert "with XLA" in choice.reason
    assert "images/s" in choice.reason


def test_a_network_that_xla_cannot_compile_goes_without() -> None:
    class Unable:
        def train_on_batch(self, *batch: object) -> None:
            raise RuntimeError("No registered kernel for XLA_GPU_JIT\nmore")

    found = precision.choose_compilation(lambda jit: Unable() if jit else small(False), BATCH, seconds=0.0)  # type: ignore[arg-type,return-value]
    assert not found.jit
    assert "with XLA fails (RuntimeError: No registered kernel for XLA_GPU_JIT)" in found.reason


def test_an_error_without_xla_is_the_networks_own() -> None:
    def broken(jit: bool) -> keras.Model:
        raise UsageError("wrong")

    with pytest.raises(UsageError, match="wrong"):
        precision.choose_compilation(broken, BATCH, seconds=0.0)


def test_auto_is_found_kept_on_resume_and_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    asked = config(folder, out, batch_size="auto", epochs=1, learning_rate=0.001, schedule="constant")
    lines: list[str] = []
    found: list[int] = []

    def find(seconds: object, most: int, bound: str) -> Found:
        assert seconds(1) > 0  # type: ignore[operator]
        found.append(most)
        return Found(3, "for a reason")

    monkeypatch.setattr(trials.batch_size, "find", find)
    train(asked, lines.append)
    assert found == [1]  # 12 images, eight steps an epoch
    record = json.loads((out / "run.json").read_text())
    assert record["arguments"]["batch_size"] == "auto"
    assert (record["resolved"]["batch_size"], record["resolved"]["batch_reason"]) == (3, "for a reason")
    assert record["resolved"]["steps_per_epoch"] == 4
    assert record["doctor"]["runs_on"] in next(line for line in lines if line.startswith("runs on "))
    assert "batch size 3: for a reason" in lines
    record["status"] = "running"
    (out / "run.json").write_text(json.dumps(record))
    again = TrainConfig.from_dict({**asked.to_dict(), "resume": True})
    train(again, lines.append)
    assert found == [1]
    assert json.loads((out / "run.json").read_text())["resolved"]["batch_size"] == 3


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The dtype policies that the run's network is built under, one by one."""
    policies: list[str] = []
    real = settled.models.create

    def create(*args: object, **options: object) -> object:
        policies.append(keras.config.dtype_policy().name)
        return real(*args, **options)

    monkeypatch.setattr(settled.models, "create", create)
    return policies


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_network_is_built_once_however_often_it_is_tried(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: list[str], policy: str
) -> None:
    real = precision.choose
    monkeypatch.setattr(precision, "LEAST_STEPS", 0)
    monkeypatch.setattr(trials.precision, "compilation", lambda: None)

    def choose(*args: object) -> precision.Choice:
        real(*args, seconds=0.0, policies=("float32", "mixed_bfloat16"))  # type: ignore[arg-type]
        return precision.Choice(policy, "for a test")

    def choose_compilation(build: object, batch: object) -> precision.Compilation:
        build(False).train_on_batch(*batch)  # type: ignore[operator,misc]
        return precision.Compilation(False, "for a test")

    def find(seconds: object, most: int, bound: str) -> Found:
        assert seconds(2) > 0  # type: ignore[operator]
        return Found(4, "for a test")

    monkeypatch.setattr(trials.precision, "choose", choose)
    monkeypatch.setattr(trials.precision, "choose_compilation", choose_compilation)
    monkeypatch.setattr(trials.batch_size, "find", find)
    train(config(folder, tmp_path / "found", batch_size="auto", epochs=2), lambda line: None)
    # The last is the float32 twin that is saved.
    assert built == ["float32", "mixed_bfloat16", "float32"]
    built.clear()
    given = config(folder, tmp_path / "given", batch_size=4, epochs=2, precision=policy, xla="off")
    train(given, lambda line: None)
    assert built == [policy, "float32"]
    assert_same_training(tmp_path / "found", tmp_path / "given")


def test_out_of_memory_says_what_fits(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = keras.Model.train_on_batch
    steps: list[int] = []

    def train_on_batch(self: keras.Model, images: np.ndarray, *rest: object) -> object:
        steps.append(len(images))
        if len(images) > 3:
            raise ResourceExhaustedError("OOM when allocating tensor")
        return real(self, images, *rest)

    def fit(self: keras.Model, *args: object, **options: object) -> None:
        raise ResourceExhaustedError("OOM when allocating tensor")

    monkeypatch.setattr(keras.Model, "train_on_batch", train_on_batch)
    monkeypatch.setattr(keras.Model, "fit", fit)
    with pytest.raises(OutOfMemoryError) as caught:
        train(config(folder, tmp_path / "run", batch_size=8), lambda line: None)
    text = str(caught.value)
    assert "Out of memory in a training step of 8 images of 24x32" in text
    assert "--batch-size 3 (or auto" in text
    assert "\n" not in text
    assert caught.value.exit_code == 2
    assert 3 in steps
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "out of memory"


def test_a_gpu_that_the_backend_does_not_see_is_a_warning_with_the_remedy(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind = advice.Finding(
        "warning", "This machine has NVIDIA A100, but tensorflow does not see it", "Do this"
    )
    real = trainer.examine

    def examine() -> object:
        import dataclasses

        return dataclasses.replace(real(), findings=(blind,))

    monkeypatch.setattr(trainer, "examine", examine)
    lines: list[str] = []
    train(config(folder, tmp_path / "run", epochs=1), lines.append)
    assert "warning: This machine has NVIDIA A100, but tensorflow does not see it. Do this" in lines
    assert (
        json.loads((tmp_path / "run" / "run.json").read_text())["doctor"]["findings"][0]["remedy"]
        == "Do this"
    )


@pytest.mark.parametrize("changes", [{}, {"lr_multipliers": {"bias$": 2.0}, "optimizer": "sgd"}])
def test_float16_scales_the_loss_and_resumes_with_its_scale(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict
) -> None:
    seen: list[keras.optimizers.Optimizer] = []
    real = compiled.Networks.chosen

    def chosen(*args: object) -> object:
        made = real(*args)  # type: ignore[arg-type]
        seen.append(made.form.optimizer)
        return made

    monkeypatch.setattr(compiled.Networks, "chosen", chosen)
    out = tmp_path / "run"
    asked = config(folder, out, precision="mixed_float16", epochs=2, **changes)
    result = train(asked, lambda line: None)
    (optimizer,) = seen
    assert type(optimizer).__name__ == "LossScaleOptimizer"
    assert float(keras.ops.convert_to_numpy(optimizer.dynamic_scale)) > 1
    # No step was lost to an overflow: all of them counted.
    assert int(keras.ops.convert_to_numpy(optimizer.inner_optimizer.iterations)) == result["steps"]
    inner = optimizer.inner_optimizer
    assert type(inner).__name__ == ("SGD" if changes else "AdamW")
    assert not hasattr(inner, "_factors") or 2.0 in inner._factors
    assert np.isfinite(result["val_miou"])
    record = json.loads((out / "run.json").read_text())
    record["status"] = "running"
    (out / "run.json").write_text(json.dumps(record))
    train(TrainConfig.from_dict({**asked.to_dict(), "resume": True}), lambda line: None)
    assert float(keras.ops.convert_to_numpy(seen[1].dynamic_scale)) > 1


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "many"])
def test_a_batch_size_is_a_number_or_auto(value: object) -> None:
    with pytest.raises(UsageError, match="batch_size"):
        TrainConfig(model="unet", data="x", out="y", batch_size=value)  # type: ignore[arg-type]
