"""Curves that also go to W&B and MLflow: stand-ins, and the real ones offline where installed."""

from __future__ import annotations

import contextlib
import json
import sys
import types
from importlib.util import find_spec
from pathlib import Path

import keras
import pytest
from test_train import config, make_folder

from kseg.errors import MissingExtraError, UsageError
from kseg.training import tracking, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("data") / "squares", {"train": 4, "val": 2})


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)


class Stub(keras.callbacks.Callback):
    made: list[Stub]

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.options, self.logs = options, []
        Stub.made.append(self)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.logs.append(dict(logs or {}))


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> dict[str, list]:
    """Modules with the names and calls of wandb and mlflow; what was asked of them."""
    Stub.made = []
    calls: dict[str, list] = {"init": [], "start_run": [], "log_params": [], "closed": []}

    @contextlib.contextmanager
    def closing(name: str):
        try:
            yield
        except BaseException as error:
            calls["closed"].append((name, type(error)))
            raise
        calls["closed"].append((name, None))

    class Opened:
        id = "w1"
        info = types.SimpleNamespace(run_id="m1")

        def __init__(self, name: str) -> None:
            self._context = closing(name)

        def __enter__(self):
            return self._context.__enter__()

        def __exit__(self, *raised):
            return self._context.__exit__(*raised)

    def opener(key: str, name: str):
        def call(**options):
            calls[key].append(options)
            return Opened(name)

        return call

    modules = {
        name: types.ModuleType(name) for name in ("wandb", "wandb.integration", "wandb.integration.keras")
    }
    modules |= {name: types.ModuleType(name) for name in ("mlflow", "mlflow.keras", "mlflow.exceptions")}
    modules["wandb"].init = opener("init", "wandb")
    modules["wandb"].Error = type("Error", (Exception,), {})
    modules["wandb.integration.keras"].WandbMetricsLogger = Stub
    modules["mlflow"].start_run = opener("start_run", "mlflow")
    modules["mlflow"].log_params = calls["log_params"].append
    modules["mlflow"].keras, modules["mlflow"].exceptions = (
        modules["mlflow.keras"],
        modules["mlflow.exceptions"],
    )
    modules["mlflow.keras"].MlflowCallback = Stub
    modules["mlflow.exceptions"].MlflowException = type("MlflowException", (Exception,), {})
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return calls


def test_curves_reach_both_and_a_resumed_run_goes_on_with_theirs(
    folder: Path, tmp_path: Path, stand_ins: dict[str, list]
) -> None:
    out = tmp_path / "run"

    def interrupt(line: str) -> None:
        if line.startswith("epoch 1/"):
            raise KeyboardInterrupt

    track = {"track": ["wandb", "mlflow"], "epochs": 2}
    with pytest.raises(KeyboardInterrupt):
        train(config(folder, out, **track), interrupt)
    assert json.loads((out / "run.json").read_text())["tracking"] == {"wandb": "w1", "mlflow": "m1"}
    assert [name for name, _ in stand_ins["closed"]] == ["mlflow", "wandb"]
    assert all(error is KeyboardInterrupt for _, error in stand_ins["closed"])
    train(config(folder, out, resume=True, **track), lambda line: None)
    assert [call["id"] for call in stand_ins["init"]] == [None, "w1"]
    assert [call["run_id"] for call in stand_ins["start_run"]] == [None, "m1"]
    assert stand_ins["init"][0]["name"] == "run"
    sent = json.dumps([stand_ins["init"][0]["config"], stand_ins["log_params"]])
    assert str(tmp_path) not in sent
    assert folder.name in sent
    assert Stub.made[2].options == {"initial_global_step": 1}
    assert {"loss", "miou", "val_loss", "val_miou"} <= set(Stub.made[2].logs[0])
    assert Stub.made[2].logs == Stub.made[3].logs


def test_a_tracker_that_does_not_let_the_run_in_is_one_line(
    folder: Path, tmp_path: Path, stand_ins: dict[str, list], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_key(**options):
        raise sys.modules["wandb"].Error("No API key configured")

    monkeypatch.setattr(sys.modules["wandb"], "init", no_key)
    with pytest.raises(UsageError, match=r"No API key configured.*WANDB_MODE=offline"):
        train(config(folder, tmp_path / "run", track=["wandb"]), lambda line: None)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_tracker_is_said_with_its_extra_before_anything_is_made(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, tracking.MODULES[name], None)
    with pytest.raises(MissingExtraError, match=rf'pip install "kseg\[{name}\]"'):
        train(config(folder, tmp_path / "run", track=[name]), lambda line: None)
    assert not (tmp_path / "run").exists()


def test_trackers_are_checked_and_may_be_one_name(folder: Path) -> None:
    assert config(folder, Path("o"), track="wandb").track == ("wandb",)
    with pytest.raises(UsageError, match="Did you mean 'wandb'"):
        config(folder, Path("o"), track=["wand"])
    with pytest.raises(UsageError, match="choose one"):
        config(folder, Path("o"), track=["tensorboard"], tensorboard=False)


@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed (extra `wandb`)")
def test_real_wandb_offline(folder: Path, tmp_path: Path) -> None:
    train(config(folder, tmp_path / "run", track=["wandb"], epochs=1), lambda line: None)
    written = list((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(written) == 1
    assert b"epoch/val_miou" in written[0].read_bytes()


@pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is not installed (extra `mlflow`)")
def test_real_mlflow_in_a_local_store(folder: Path, tmp_path: Path) -> None:
    import mlflow

    result = train(config(folder, tmp_path / "run", track=["mlflow"], epochs=2), lambda line: None)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    (found,) = mlflow.MlflowClient().search_runs(["0"])
    history = mlflow.MlflowClient().get_metric_history(found.info.run_id, "val_miou")
    assert max(entry.value for entry in history) == pytest.approx(result["val_miou"])
    assert found.data.params["kseg_model"] == "unet"
    assert (found.info.status, found.info.run_name) == ("FINISHED", "run")
