"""The arguments of a run: checked, written, read back, compared."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from kseg.errors import UsageError
from kseg.training import TrainConfig


def config(**changes: object) -> TrainConfig:
    return TrainConfig(**{"model": "fcn8s", "data": "sample:nuclei", "out": "run", **changes})  # type: ignore[arg-type]


def test_json_round_trip_keeps_every_argument() -> None:
    original = config(
        size=(360, 480), crop=[240, 320], model_args={"width": 0.5}, augment_args={"scale": (0.5, 2)}
    )
    text = json.dumps(original.to_dict())
    again = TrainConfig.from_dict(json.loads(text))
    assert again.size == (360, 480)
    assert again.crop == (240, 320)
    assert again.differences(original) == []
    assert json.loads(text).keys() == {item.name for item in dataclasses.fields(TrainConfig)}


def test_differences_name_what_changes_the_numbers_only() -> None:
    assert config(out="elsewhere", resume=True, cache="none", tensorboard=False).differences(config()) == []
    changed = config(epochs=3, learning_rate=0.5).differences(config())
    assert changed == ["epochs: 30 -> 3", "learning_rate: 0.001 -> 0.5"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "sgdd"}, "Did you mean 'sgd'"),
        ({"schedule": "linear"}, "`schedule` must be one of cosine"),
        ({"precision": "float16"}, "Received: precision='float16'"),
        ({"class_weights": "all"}, "`class_weights` must be one of"),
        ({"epochs": 0}, "whole number >= 1"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"limit": 0}, "limit=0"),
        ({"seed": -1}, "seed=-1"),
        ({"learning_rate": 0}, "`learning_rate` must be a number > 0"),
        ({"learning_rate": math.inf}, "learning_rate=inf"),
        ({"learning_rate": math.nan}, "learning_rate=nan"),
        ({"learning_rate": "fast"}, "learning_rate='fast'"),
        ({"learning_rate": True}, "learning_rate=True"),
        ({"clip_norm": math.nan}, "clip_norm=nan"),
        ({"weight_decay": -0.1}, "`weight_decay` must be a number >= 0"),
        ({"weight_decay": math.nan}, "weight_decay=nan"),
        ({"class_weights_power": math.inf}, "class_weights_power=inf"),
        ({"ema": 1.0}, "`ema` must be a number >= 0 and < 1"),
        ({"seed": 2**40}, "`seed` must be a whole number >= 0 and <= 4294967295"),
        ({"epochs": 10**12}, "epochs=1000000000000"),
        ({"epochs": 10**5000}, "epochs=an integer of 16610 bits"),
        ({"batch_size": 10**9}, "batch_size=1000000000"),
        ({"size": (10**6, 10**6)}, "both >= 1 and <= 32768"),
        ({"size": 256}, "size=256"),
        ({"size": (2.0, 4)}, "`size` must be"),
        ({"crop": (32768, 32768)}, "32768 x 32768 are 1,073,741,824 pixels; at most 268,435,456"),
        ({"size": (360,)}, "`size` must be"),
        ({"crop": (0, 4)}, "`crop` must be"),
        ({"sampling": "balanced"}, "`sampling` must be one of"),
        ({"crops": "boxes"}, "`crops` must be one of objects, proposals"),
        ({"crops_args": {"per_image": 1}}, "needs `crops`"),
        ({"samples_per_image": 8}, "`samples_per_image` needs `sampling`"),
        ({"samples_per_image": 0, "sampling": "pixels"}, "samples_per_image=0"),
        ({"freeze": ""}, "`freeze` must be"),
        ({"momentum": 1}, "`momentum` must be a number"),
        ({"lr_multipliers": {"bias": 0.0}}, r"positive number.*freeze"),
        ({"lr_multipliers": {"bias": float("inf")}}, "positive number"),
        ({"lr_multipliers": {"bias": "two"}}, "positive number"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        config(**changes)


def test_unknown_arguments_get_a_hint() -> None:
    with pytest.raises(UsageError, match=r"`epoch`\. Did you mean 'epochs'"):
        TrainConfig.from_dict({"model": "fcn8s", "data": "d", "out": "o", "epoch": 3})


@pytest.mark.parametrize("value", [float("inf"), float("nan"), {1}, [float("-inf")]])
@pytest.mark.parametrize("name", ["augment_args", "model_args", "loss_args", "crops_args"])
def test_what_no_record_could_hold_is_refused(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"Argument `{name}` must hold what JSON can.*color"):
        TrainConfig(model="unet", data="sample:nuclei", out="x", **{name: {"color": value}})
