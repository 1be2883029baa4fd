"""Weights of one network into another: layers of one name and one shape, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kseg.errors import UsageError
from kseg.models import FCN16s, FCN32s, create, rebuild, transfer

SMALL: dict[str, Any] = {"num_classes": 3, "encoder": "resnet18", "width": 0.125, "head_channels": 16}


def _filled(model: Any, value: float) -> Any:
    for layer in model.layers:
        layer.set_weights([np.full(w.shape, value, "float32") for w in layer.weights])
    return model


def test_copies_what_both_have_with_moving_statistics() -> None:
    coarse, fine = _filled(FCN32s(**SMALL), 0.5), _filled(FCN16s(**SMALL), 0.25)
    copied = transfer(coarse, fine)
    assert {"fc6_conv", "fc6_bn", "score_fr"} <= set(copied)
    assert "score_pool4" not in copied
    for layer in fine.layers:
        expected = 0.5 if layer.name in copied else 0.25
        assert all((w == expected).all() for w in layer.get_weights()), layer.name
    assert len(fine.get_layer("fc6_bn").get_weights()) == 4


def test_layers_of_another_shape_stay() -> None:
    fine = _filled(FCN32s(**SMALL), 0.25)
    copied = transfer(_filled(FCN32s(**{**SMALL, "num_classes": 5}), 0.5), fine)
    assert "score_fr" not in copied
    assert (fine.get_layer("score_fr").get_weights()[0] == 0.25).all()


def test_networks_that_share_no_layer_are_not_transferred() -> None:
    with pytest.raises(UsageError, match="share no layer"):
        transfer(FCN32s(**SMALL), create("unet", num_classes=3, width=0.125))


@pytest.mark.parametrize(
    ("name", "arguments", "change"),
    [
        ("FarabetNet", {"width": 0.25}, {"seed": 7}),
        ("FarabetNet", {"width": 0.25}, {"chroma": "both"}),
        ("TextonBoost", {"textons": 8, "rectangles": 8, "features": 16}, {"seed": 7}),
        ("TextonBoost", {"textons": 8, "rectangles": 8, "features": 16}, {"largest": 40}),
    ],
    ids=str,
)
def test_weights_are_not_put_on_other_random_connections(
    name: str, arguments: dict[str, Any], change: dict[str, Any]
) -> None:
    trained = create(name, num_classes=3, **arguments)
    assert transfer(trained, create(name, num_classes=3, **arguments))
    with pytest.raises(UsageError, match=r"`seed`|weights that the trained network lacks"):
        rebuild(trained, **change)
    if "seed" in change:
        with pytest.raises(UsageError, match="other connections or regions"):
            transfer(trained, create(name, num_classes=3, **{**arguments, **change}))


@pytest.mark.parametrize("change", [{"kappa": 2.0}, {"quirks": True}], ids=str)
def test_textons_are_not_put_behind_other_filters(change: dict[str, Any]) -> None:
    trained = create("textonboost", num_classes=3, textons=8, rectangles=8, features=16)
    with pytest.raises(UsageError, match="has learned its weights with"):
        rebuild(trained, **change)


@pytest.mark.parametrize(
    "change", [{"variant": "rcnn2"}, {"feedback": "softmax"}, {"last_tanh": False}], ids=str
)
def test_a_recurrent_net_is_not_rebuilt_into_one_that_computes_something_else(change: dict[str, Any]) -> None:
    trained = create("recurrentcnn", num_classes=3, variant="rcnn3", features=(4, 5))
    with pytest.raises(UsageError, match=f"has learned its weights with {next(iter(change))}="):
        rebuild(trained, **change)
    assert rebuild(trained, instances=1, variant="rcnn3").info.arch_args["instances"] == 1
