"""Weights of one network into another: layers of one name and one shape, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kseg.errors import UsageError
from kseg.models import FCN16s, FCN32s, create, transfer

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
