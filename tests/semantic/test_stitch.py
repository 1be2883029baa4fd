"""Shift-and-stitch: equal to dense evaluation where that is defined, and to a loop over shifts elsewhere."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from fake_runtime import Identity, toy_spec

from kseg.errors import UsageError
from kseg.inference import Predictor, Runtime
from kseg.inference.keras_runtime import KerasRuntime
from kseg.layers import CropLike, TransposedConv
from kseg.models import create
from kseg.semantic.inference.shift_and_stitch import ShiftAndStitchRuntime, coarse_scores
from kseg.tasks import OneOutput

BORDER, STRIDE = 12, 4
TOY: dict[str, Any] = {"num_classes": 3, "width": 0.03, "dropout": 0.0, "head_channels": 8}


def _image(height: int, width: int, batch: int = 1) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(batch, height, width, 3)).astype("float32")


def valid_net() -> keras.Model:
    """Two valid 3x3 convolutions and pools: stride 4, as in a paper-style FCN inside a border of zeros."""
    keras.utils.set_random_seed(3)
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.ZeroPadding2D(BORDER)(image)
    x = keras.layers.Conv2D(6, 3, activation="relu", name="a")(x)
    x = keras.layers.MaxPooling2D(2, 2)(x)
    x = keras.layers.Conv2D(6, 3, activation="relu", name="b")(x)
    x = keras.layers.MaxPooling2D(2, 2)(x)
    x = keras.layers.Conv2D(3, 2, name="score")(x)
    x = TransposedConv(None, 2 * STRIDE, STRIDE, "valid")(x)
    model = keras.Model(image, CropLike(3, name="logits")([x, image]))
    model.spec = toy_spec(3)
    return model


def dense_scores(net: keras.Model, image: np.ndarray) -> np.ndarray:
    """The scores of `valid_net` at every pixel: stride 1, dilated instead."""
    x = keras.layers.ZeroPadding2D(BORDER)(image)
    for name, rate in (("a", 1), ("b", 2)):
        layer = net.get_layer(name)
        x = keras.ops.relu(keras.ops.conv(x, layer.kernel, padding="valid", dilation_rate=rate) + layer.bias)
        # A maximum over 2 x 2 cells that lie `rate` apart.
        x = keras.ops.maximum(x[:, :-rate], x[:, rate:])
        x = keras.ops.maximum(x[:, :, :-rate], x[:, :, rate:])
    layer = net.get_layer("score")
    return np.asarray(keras.ops.conv(x, layer.kernel, padding="valid", dilation_rate=4) + layer.bias)


def fcn(name: str, **arguments: Any) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = create(name, **{**TOY, **arguments})
    random = np.random.default_rng(1)
    for layer in model.layers:
        if layer.name.startswith("score") and layer.weights:
            layer.set_weights([random.normal(0, 0.5, w.shape).astype("float32") for w in layer.weights])
    model.spec = toy_spec(int(model.output.shape[-1]))
    return model


def by_pixel(model: keras.Model, image: np.ndarray, shifts: int) -> np.ndarray:
    """Every pixel from the four nearest middles of cells, of all shifted runs; by a loop, for one image.

    A middle is where the scores do not change when all else is constant: it follows from the model's
    own enlargement, whose logits at a pixel are the bilinear mix of the cells around it.
    """
    found = coarse_scores(model)
    stride, step = found.strides[0], found.strides[0] // shifts
    height, width = image.shape[1:3]
    cells: dict[tuple[float, float], np.ndarray] = {}
    for i in range(shifts):
        for j in range(shifts):
            reach = (shifts - 1) * step
            moved = np.zeros((1, height + reach, width + reach, 3), "float32")
            moved[:, i * step : i * step + height, j * step : j * step + width] = image
            scores = np.asarray(found.model(moved, training=False))[0]
            for (y, x), _ in np.ndenumerate(scores[..., 0]):
                at = (stride * y + found.centres[0] - i * step, stride * x + found.centres[1] - j * step)
                cells[at] = scores[y, x]
    rows, columns = (np.array(sorted({at[axis] for at in cells})) for axis in (0, 1))
    logits = np.zeros((height, width, int(model.output.shape[-1])))
    for y in range(height):
        for x in range(width):
            for row in rows[np.abs(rows - y) < step]:
                for column in columns[np.abs(columns - x) < step]:
                    share = (1 - abs(row - y) / step) * (1 - abs(column - x) / step)
                    logits[y, x] += share * cells[row, column]
    return logits


@pytest.mark.parametrize("shifts", [2, 4])
def test_scores_are_those_of_the_dense_network(shifts: int) -> None:
    net, image = valid_net(), _image(13, 18, batch=2)
    run = ShiftAndStitchRuntime(net, shifts)
    step, reach = STRIDE // shifts, STRIDE - STRIDE // shifts
    scores = run.scores(image)
    dense = dense_scores(net, np.pad(image, ((0, 0), (reach, reach), (reach, reach), (0, 0))))
    # Interlaced cell (0, 0) stands where the window of a pixel (0, 0) of the image moved by `reach` does.
    dense = dense[:, ::step, ::step]
    rows, columns = min(scores.shape[1], dense.shape[1]), min(scores.shape[2], dense.shape[2])
    assert min(rows, columns) > 4 * shifts
    np.testing.assert_allclose(scores[:, :rows, :columns], dense[:, :rows, :columns], atol=1e-5)
    assert np.ptp(dense) > 0.1


@pytest.mark.parametrize(
    ("name", "arguments", "shifts"),
    [
        ("FCN8s", {"encoder": "resnet18", "width": 0.125}, 2),
        ("FCN8s", {"padding": "paper"}, 4),
        ("FCN16s", {"upsampling": "learned"}, 2),
        ("FCNAlexNet", {"padding": "paper", "width": 0.1}, 2),
        ("FCN8s", {"geometric_classes": 2, "geometric_labels": [0, 1, 1], "output_head": "geometric"}, 2),
    ],
)
def test_fcn_equals_a_loop_over_shifts_and_pixels(name: str, arguments: dict, shifts: int) -> None:
    model, image = fcn(name, **arguments), _image(21, 27)
    logits = ShiftAndStitchRuntime(model, shifts)(image)
    assert (logits.shape, logits.dtype) == ((1, 21, 27, model.output.shape[-1]), "float32")
    expected = by_pixel(model, image, shifts)
    scale = np.abs(expected).max()
    assert np.ptp(expected) > 0.05 * scale
    np.testing.assert_allclose(logits[0], expected, atol=1e-5 * scale)


@pytest.mark.parametrize("name", ["FCN8s", "FCN32s"])
@pytest.mark.parametrize("padding", ["same", "paper"])
def test_middles_of_the_cells_are_where_the_network_puts_them(name: str, padding: str) -> None:
    """Enlarging the coarse scores at those middles, with one shift, is what the network itself gives."""
    model, image = fcn(name, padding=padding), _image(70, 100)
    logits = np.asarray(model(image, training=False))[0]
    stride = coarse_scores(model).strides[0]
    inside = (slice(stride // 2, 64 - stride // 2), slice(stride // 2, 96 - stride // 2))
    np.testing.assert_allclose(
        by_pixel(model, image, 1)[inside], logits[inside], atol=1e-5 * np.abs(logits).max()
    )


def test_one_shift_is_the_network_itself() -> None:
    model, image = fcn("FCN8s"), _image(40, 50)
    np.testing.assert_array_equal(ShiftAndStitchRuntime(model, 1)(image), KerasRuntime(model)(image))


def test_a_predictor_takes_it_as_a_runtime() -> None:
    run = ShiftAndStitchRuntime(KerasRuntime(fcn("FCN8s")), 2)
    assert isinstance(run, Runtime)
    assert run.name == "keras, stitched 2x2"
    assert run.input_size is None
    predictor = Predictor(run, flip=True)
    assert predictor(np.zeros((33, 47, 3), "uint8"))[0].shape == (33, 47)
    predictor.close()


class OfFile(OneOutput):
    """What runs an artefact: outputs by name, no layers."""

    name = "of a file"


def test_what_cannot_be_stitched_is_named() -> None:
    image = keras.Input((None, None, 3))
    no_enlargement = keras.Model(image, keras.layers.Conv2D(3, 1)(image))
    no_enlargement.spec = toy_spec(3)
    with pytest.raises(UsageError, match=r"must divide the stride 8 .*: 1, 2, 4, 8\. Received: 3"):
        ShiftAndStitchRuntime(fcn("FCN8s"), 3)
    with pytest.raises(UsageError, match=r"only a \.keras file has\. Received: runtime"):
        ShiftAndStitchRuntime(Identity(toy_spec(3)), 2)
    with pytest.raises(UsageError, match=r"only a \.keras file has.*'of a file'"):
        ShiftAndStitchRuntime(OfFile(), 2)
    with pytest.raises(UsageError, match="learned its last enlargement"):
        ShiftAndStitchRuntime(fcn("FCN8s", upsampling="learned_all"), 2)
    with pytest.raises(UsageError, match="has none"):
        ShiftAndStitchRuntime(no_enlargement, 2)
    with pytest.raises(UsageError, match="must be open"):
        ShiftAndStitchRuntime(fcn("FCN8s", input_shape=(64, 64, 3)), 2)


@pytest.mark.parametrize("name", ["patchnet", "n4", "pinheirocnn", "recurrentcnn", "farabetnet"])
def test_networks_that_mirror_their_border_are_refused(name: str) -> None:
    """Behind zeros they would see another image; the patch nets among them stitch by themselves."""
    model = create(name, num_classes=3, width=0.25, **({} if name == "farabetnet" else {"output_stride": 2}))
    model.spec = toy_spec(3)
    with pytest.raises(UsageError, match=r"mirrors its border.*output_stride"):
        ShiftAndStitchRuntime(model, 2)
