"""SDS' network: the ledger's counts, the two pathways, and what is attached to them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import deploy
import kseg
from kseg.errors import UsageError
from kseg.instance.sds.tuning import joined
from kseg.layers import CellMeans
from kseg.layers.cell_means import cell_weights
from kseg.models import SDS
from kseg.models.instance.sds import CELLS
from kseg.models.shapes import shapes_only
from kseg.models.summary import parameters

THIN: dict[str, Any] = {"input_shape": (32, 32, 4), "num_classes": 3, "trunk": "residual", "width": 0.0625}


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    return SDS(**THIN, svms=True, refiner=True)


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    random = np.random.default_rng(0)
    pixels = random.normal(size=(3, 32, 32, 3))
    mask = random.random((3, 32, 32, 1)) < 0.5
    return np.concatenate([pixels, mask], axis=3).astype(np.float32)


def test_the_counts_of_the_ledger() -> None:
    """Two CaffeNets and 8192 -> 21; R-CNN's one; 100 x (8192 + 100 + 1) numbers of coarse masks a class."""
    with shapes_only():
        both, box = SDS(), SDS(pathways=("box",))
        assert (both.count_params(), box.count_params()) == (113_908_501, 56_954_261)
        assert both.get_layer("features").output.shape == (None, 8192)
        assert [box.get_layer(f"box_pool{n}").output.shape[1] for n in (1, 2, 5)] == [27, 13, 6]
        whole = SDS(svms=True, refiner=True)
        assert whole.get_layer("coarse").count_params() == 20 * 829_300
        assert parameters(whole)[0] - both.count_params() == 20 * (8192 + 1) + 20 * 829_300


def test_the_region_pathway_sees_the_box_where_the_mask_is_and_nothing_elsewhere(
    network: keras.Model, crops: np.ndarray
) -> None:
    first = {
        path: network.get_layer(f"{path}_stem_1_conv")._inbound_nodes[0].input_tensors[0]
        for path in ("box", "region")
    }
    box, region = (np.asarray(keras.Model(network.input, first[path])(crops)) for path in ("box", "region"))
    inside = crops[..., 3] == 1
    np.testing.assert_array_equal(box, crops[..., :3])
    np.testing.assert_array_equal(region[inside], box[inside])
    assert not region[~inside].any()


def test_pixels_outside_the_mask_change_the_box_pathway_alone(
    network: keras.Model, crops: np.ndarray
) -> None:
    look = keras.Model(network.input, network.get_layer("features").output)
    other = np.where(crops[..., 3:] == 1, crops, crops + np.array([1, 1, 1, 0], np.float32))
    before, after = (np.asarray(look(each)) for each in (crops, other))
    half = before.shape[1] // 2
    assert np.abs(before[:, :half] - after[:, :half]).max() > 0
    np.testing.assert_array_equal(before[:, half:], after[:, half:])


def test_outputs(network: keras.Model, crops: np.ndarray) -> None:
    found = network(crops, training=False)
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "logits": (3, 3), "margins": (3, 2), "coarse": (3, 2, CELLS, CELLS),
    }  # fmt: skip
    assert set(SDS(**THIN).output) == {"logits"}


def test_coarse_masks_read_the_cells_of_the_mask(network: keras.Model, crops: np.ndarray) -> None:
    """With the weights of the identity a coarse mask is the region's own, rows and columns in order."""
    depth = network.get_layer("features").output.shape[1]
    kernel = np.zeros((depth + CELLS**2, 2, CELLS**2), np.float32)
    kernel[depth:, 1] = np.eye(CELLS**2)
    layer = network.get_layer("coarse")
    before = layer.get_weights()
    layer.set_weights([kernel.reshape(len(kernel), -1), np.zeros(2 * CELLS**2, np.float32)])
    given = np.asarray(network(crops, training=False)["coarse"])
    layer.set_weights(before)
    assert not given[:, 0].any()
    weights = cell_weights(32, CELLS)
    np.testing.assert_allclose(given[:, 1], weights @ crops[..., 3] @ weights.T, atol=1e-6)


def test_variants_differ_in_weights_and_not_in_the_graph() -> None:
    """A takes one network twice, B two; C is B trained on."""
    keras.utils.set_random_seed(0)
    box, region = (SDS(**THIN, pathways=(path,)) for path in ("box", "region"))
    a, b = (joined(lambda: SDS(**THIN), box, other) for other in (box, region))
    plain = SDS(**THIN)

    def graph(model: keras.Model) -> str:
        return json.loads(
            re.sub(r"keras_tensor_\d+|get_item_\d+|get_item", "_", json.dumps(model.get_config()))
        )

    assert graph(a) == graph(b) == graph(plain)
    fc = {
        name: model.get_layer(f"{name}_fc").get_weights()[0]
        for name, model in (("box", box), ("region", region))
    }
    for model, other in ((a, "box"), (b, "region")):
        np.testing.assert_array_equal(model.get_layer("box_fc").kernel, fc["box"])
        np.testing.assert_array_equal(model.get_layer("region_fc").kernel, fc[other])
    crops = np.random.default_rng(0).normal(size=(2, 32, 32, 4)).astype(np.float32)
    crops[..., 3] = 1
    # The masks are whole: both pathways see the same, and the logits of A are those of its one network.
    np.testing.assert_allclose(a(crops)["logits"], box(crops)["logits"], atol=1e-5)
    mean = (np.asarray(box(crops)["logits"]) + np.asarray(region(crops)["logits"])) / 2
    np.testing.assert_allclose(b(crops)["logits"], mean, atol=1e-5)


@pytest.mark.parametrize("side", [10, 20, 32, 7])
def test_cell_means(side: int) -> None:
    weights = cell_weights(side, CELLS)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    # Every pixel counts as much as any other.
    np.testing.assert_allclose(weights.sum(axis=0), CELLS / side, rtol=1e-5)
    image = np.random.default_rng(0).random((2, side, side, 1)).astype(np.float32)
    found = np.asarray(CellMeans(CELLS)(image)).reshape(2, CELLS, CELLS)
    np.testing.assert_allclose(found.mean(axis=(1, 2)), image.mean(axis=(1, 2, 3)), rtol=1e-5)
    if side % CELLS == 0:
        step = side // CELLS
        blocks = image.reshape(2, CELLS, step, CELLS, step).mean(axis=(2, 4))
        np.testing.assert_allclose(found, blocks, rtol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"pathways": ("mask",)}, "`pathways` must be some of box, region"),
        ({"pathways": ()}, "`pathways` must be some of"),
        ({"trunk": "vgg"}, "`trunk` must be one of caffenet, residual"),
        ({"input_shape": (48, 48, 4)}, "over residual sides are multiples of 32"),
        ({"input_shape": (32, 32, 3)}, r"must be \(side, side, 4\)"),
        ({"trunk": "caffenet"}, "over caffenet sides are 67 or more"),
        ({"num_classes": 1}, "`num_classes` must be an integer >= 2"),
    ],
)
def test_arguments(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        SDS(**{**THIN, **wrong})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "precision", "dynamic"),
    [
        ("tflite", "float16", None), ("onnx", "float16", None), ("onnx", "float32", "batch"),
        ("tensorrt-rtx", "float32", "batch"), ("tensorrt-rtx", "float16", None),
    ],
)  # fmt: skip
def test_artefacts_say_the_same(
    network: keras.Model, crops: np.ndarray, tmp_path: Path, target: str, precision: str, dynamic: str | None
) -> None:
    """What `test_sds_road` leaves out; without a GPU, the graph that an engine was built from."""
    row = deploy.FORMATS[target]
    for module in row.exported_with:
        pytest.importorskip(module)
    path = tmp_path / f"m{row.suffix}"
    deploy.export(
        network, path, format=target, precision=precision, dynamic=dynamic, size=(32, 32), verify=False,
        spec=kseg.Spec(
            classes=("nothing", "one", "other"), task="proposals", architecture="SDS",
            arch_args=network.info.arch_args,
        ),
    )  # fmt: skip
    assert deploy.read_spec(path).task == "proposals"
    try:
        runtime = deploy.load(path)
    except deploy.NoDeviceError:
        runtime = deploy.load(f"{path}.onnx")
    found, expected = runtime.outputs(crops), network(crops, training=False)
    runtime.close()
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-3 if precision == "float32" else 0.05)
