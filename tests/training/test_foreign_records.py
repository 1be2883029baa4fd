"""`run.json`, stages and checkpoints that were changed by hand or by chance: one line, file and field."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from kseg import files
from kseg.errors import ArtefactError, DataError, KsegError, UsageError
from kseg.training import TrainConfig, checkpoint, record
from kseg.training.averaging import AverageWeights
from kseg.training.stages import read_stages

ROW = {"epoch": 1, "loss": 0.5, "total_seconds": 2.0, "images_per_second": 3.5}
META = {"rows": [ROW], "best": ROW, "step": 2}
RUN = {
    "status": "interrupted",
    "started": "2026-01-01",
    "arguments": {"model": "unet", "data": "d", "out": "o"},
    "resolved": {"precision": "float32", "precision_reason": "as asked"},
    "data": {"fingerprint": "f", "splits": {"train": 3}},
}


def toy() -> Any:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def told(caught: pytest.ExceptionInfo[KsegError], said: str) -> None:
    assert str(caught.value).isprintable()
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arguments": 5}, "field `arguments`: expected an object"),
        ({"status": "done"}, "field `status`"),
        ({"data": {"fingerprint": 1, "splits": {}}}, "field `data.fingerprint`: expected text"),
        ({"resolved": {"precision": "int4", "precision_reason": ""}}, "field `resolved.precision`"),
        ({"resolved": None}, "has no `resolved`"),
        ({"status": "finished"}, "has no `result`"),
        ({"x": 10**30}, "beyond 63 bits"),
    ],
)
def test_run_json(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    (tmp_path / record.FILE).write_text(json.dumps({**RUN, **changes}))
    with pytest.raises(UsageError) as caught:
        record.read(tmp_path, to_resume=True)
    told(caught, said)
    assert record.FILE in str(caught.value)


def test_run_json_as_it_should_be(tmp_path: Path) -> None:
    (tmp_path / record.FILE).write_text(json.dumps(RUN))
    assert record.read(tmp_path, to_resume=True) == RUN
    os.remove(tmp_path / record.FILE)
    os.mkfifo(tmp_path / record.FILE)
    with pytest.raises(UsageError, match="no regular file"):
        record.read(tmp_path)


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ("{}", "expected a list"),
        ("[]", "lists no stage"),
        ("[1]", "field `[0]`: expected an object"),
        ("[" * 500, "stages.json"),
        ('[{"name": "../x"}]', "must be the name of a folder"),
        ('[{"name": "a\\u0000"}]', "must be the name of a folder"),
        ('[{"name": 5}]', "must be the name of a folder"),
        ('[{"name": "a", "model": 5}]', "field `model`: expected text"),
        ('[{"name": "a", "model": "unet", "size": [1, "x"]}]', "field `size[1]`: expected a whole number"),
        ('[{"name": "a", "model": "unet", "epochs": 1e3}]', "field `epochs`: expected a whole number"),
    ],
)
def test_stages(listed: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "stages.json"
    path.write_text(listed)
    with pytest.raises((DataError, UsageError)) as caught:
        read_stages(str(path), {"out": str(tmp_path), "data": "d"})
    told(caught, said)


def test_arguments_come_back_as_they_were_written() -> None:
    config = TrainConfig(
        model="unet", data="d", out="o", size=(3, 4), lr_multipliers={"bias": 2}, augment_args={"flip": 1}
    )
    assert TrainConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ({**META, "rows": []}, "the best epoch is none of the history"),
        ({**META, "rows": [{**ROW, "epoch": 2}]}, "row of epoch 1"),
        ({**META, "rows": [{"epoch": 1}]}, "row of epoch 1"),
        ({**META, "rows": [{**ROW, "loss": "x"}]}, "field `rows[0][...]`: expected a number, found text"),
        ({**META, "rows": 5}, "field `rows`: expected a list"),
        ({**META, "best": {**ROW, "loss": 3.0}}, "the best epoch is none"),
        ({**META, "step": -1}, "field `step`: expected a whole number >= 0"),
        ({"rows": [ROW]}, "missing required field `best`"),
        ([], "expected an object"),
    ],
)
def test_meta_of_checkpoints(meta: Any, said: str, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, toy(), [], meta)
    with pytest.raises(ArtefactError) as caught:
        checkpoint.load(tmp_path)
    told(caught, said)
    assert "Start again with another run folder" in str(caught.value)


@pytest.mark.parametrize("change", ["missing", "dtype", "shape", "average"])
def test_arrays_of_checkpoints(change: str, tmp_path: Path) -> None:
    model = toy()
    checkpoint.save(tmp_path, model, [np.zeros((4, 3), np.float32), np.zeros(3, np.float32)], META)
    stored = checkpoint.load(tmp_path)
    assert stored is not None
    meta, arrays = stored
    assert meta == checkpoint.Meta(rows=[ROW], best=ROW, step=2)
    average = AverageWeights(0.9, network=model)
    average.restore(meta.step, checkpoint.restore(model, arrays))
    if change == "missing":
        del arrays["model/0"]
    elif change == "dtype":
        arrays["model/0"] = arrays["model/0"].astype(np.float64)
    elif change == "shape":
        arrays["model/0"] = arrays["model/0"][:2]
    else:
        arrays["average/1"] = np.zeros(7, np.float32)
    with pytest.raises(ArtefactError, match="Start again with another --out"):
        average.restore(meta.step, checkpoint.restore(model, arrays))


def test_an_archive_bomb_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / checkpoint.FILE
    with files.atomic(path) as temporary, open(temporary, "wb") as handle:
        np.savez_compressed(handle, meta=np.zeros(400 * 2**20, np.uint8))
    with pytest.raises(ArtefactError, match="unpack to at most"):
        checkpoint.load(tmp_path)
