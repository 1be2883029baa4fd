"""Counting parameters and operations, and the command that lists them."""

from __future__ import annotations

import json

import keras
import pytest
from keras import layers

from kseg.cli import main
from kseg.errors import UsageError
from kseg.layers import GroupedConv2D, TransposedConv
from kseg.models import flops, registry
from kseg.models.summary import parameters

CASES = [
    (layers.Conv2D(5, 3, padding="same"), 6 * 8 * 9 * 4 * 5),
    (layers.Conv2D(5, 3, strides=2, padding="same"), 3 * 4 * 9 * 4 * 5),
    (GroupedConv2D(6, 3, padding="same", groups=2), 6 * 8 * 9 * 2 * 6),
    (layers.DepthwiseConv2D(3, padding="same"), 6 * 8 * 9 * 4),
    (layers.SeparableConv2D(5, 3, padding="same"), 6 * 8 * (9 * 4 + 4 * 5)),
    (layers.Conv2DTranspose(5, 2, 2), 6 * 8 * 4 * 4 * 5),
    (TransposedConv(kernel_size=4, strides=2), 6 * 8 * 16 * 4),
    (TransposedConv(5, kernel_size=4, strides=2), 6 * 8 * 16 * 4 * 5),
    (layers.Dense(7), 6 * 8 * 4 * 7),
    (layers.ReLU(), 0),
]


@pytest.mark.parametrize(("layer", "macs"), CASES, ids=lambda item: type(item).__name__)
def test_operations_of_one_layer(layer: keras.layers.Layer, macs: int) -> None:
    image = keras.Input((None, None, 4))
    model = keras.Model(image, layer(image))
    assert flops(model, (6, 8)) == 2 * macs


def test_nested_models_and_plain_operations_are_seen_and_left_alone() -> None:
    inner_in = keras.Input((None, None, 4))
    inner = keras.Model(inner_in, layers.Conv2D(4, 3, padding="same")(inner_in))
    image = keras.Input((None, None, 4))
    model = keras.Model(image, inner(image * 2.0) + inner(image))
    before = len(inner.layers[1]._inbound_nodes)
    assert flops(model, (6, 8)) == 2 * (2 * 6 * 8 * 9 * 4 * 4)
    assert len(inner.layers[1]._inbound_nodes) == before


def test_a_model_without_one_image_input_is_refused() -> None:
    vector = keras.Input((4,))
    with pytest.raises(UsageError, match="one input"):
        flops(keras.Model(vector, layers.Dense(2)(vector)), (8, 8))


def test_parameters_are_trainable_and_all() -> None:
    image = keras.Input((8, 8, 3))
    x = layers.BatchNormalization()(layers.Conv2D(2, 1)(image))
    assert parameters(keras.Model(image, x)) == (8 + 4, 8 + 8)


@pytest.fixture
def two_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave only the light networks in the table."""
    kept = {name: entry for name, entry in registry._ENTRIES.items() if name in ("LRASPP", "ResUNet")}
    monkeypatch.setattr(registry, "_ENTRIES", kept)


@pytest.mark.usefixtures("two_networks")
def test_command_lists_networks_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["models", "--json", "--size", "240x320", "--classes", "11"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["size"] == [240, 320]
    rows = {row["name"]: row for row in found["models"]}
    assert sorted(rows) == ["LRASPP", "ResUNet"]
    assert rows["ResUNet"]["parameters"] == 5_056_715
    assert rows["ResUNet"]["encoder"] is None
    assert rows["LRASPP"]["encoder"] == "mobilenetv3"
    assert rows["LRASPP"]["stride"] == 16
    assert all(row["flops"] > 0 and row["paper"] and row["summary"] for row in rows.values())


@pytest.mark.usefixtures("two_networks")
def test_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["models"]) == 0
    shown = capsys.readouterr()
    assert "ResUNet" in shown.out
    assert "kseg train" in shown.err


def test_command_describes_one_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["models", "deconv-net"]) == 0
    shown = capsys.readouterr().out
    assert "Noh, Hong, Han" in shown
    assert "unpooling='switches'" in shown
    assert "fc_kernel: side of the convolution in the middle" in shown
    assert main.main(["models", "deconvnet", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == "DeconvNet"
    assert found["model_args"]["fc_kernel"] == 7
    assert not {"num_classes", "input_shape", "encoder"} & set(found["model_args"])
    assert main.main(["models", "deconvnett"]) == 2
    assert "Did you mean" in capsys.readouterr().err


def test_command_refuses_a_size_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main.main(["models", "--size", "big"])
    assert refused.value.code == 2
    assert "HEIGHTxWIDTH" in capsys.readouterr().err
