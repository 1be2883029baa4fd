"""Farabet's net through the battery in both forms, and what its paper says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import pytest
from battery import CLASSES, SPEC, ModelBattery, batch, four_samples

from kseg.errors import UsageError
from kseg.layers import ConnectionTableConv2D
from kseg.models import FarabetNet, create, transfer
from kseg.models.semantic.farabet import chroma_table
from kseg.models.summary import flops, parameters, shapes_only

EXTRACTOR = ("conv1", "conv2", "conv3")
SMALL: dict[str, Any] = {"width": 0.125, "num_classes": 3}


def run(model: keras.Model, images: np.ndarray) -> Any:
    """Outputs of a network as numpy, without a graph per image size."""
    return keras.tree.map_structure(keras.ops.convert_to_numpy, model(images, training=False))


def connected_inputs(layer: ConnectionTableConv2D) -> list[list[int]]:
    """The table, read from the dense kernel: the inputs of each output whose weights are not 0."""
    used = (keras.ops.convert_to_numpy(layer.kernel) != 0).any((0, 1))
    return [np.flatnonzero(column).tolist() for column in used.T]


class TestFarabetNet(ModelBattery):
    architecture = "FarabetNet"
    toy: ClassVar = {"width": 0.25}
    rate = 5e-3

    def test_training_leaves_the_tables_as_they_are(self, trained: Any) -> None:
        fresh = self.make()
        for name in EXTRACTOR:
            layer, start = trained[0].get_layer(name), fresh.get_layer(name)
            assert connected_inputs(layer) == connected_inputs(start) == layer.table
            assert (layer.get_weights()[0] != start.get_weights()[0]).all()
        for name in EXTRACTOR[1:]:
            layer = trained[0].get_layer(name)
            assert {len(row) for row in connected_inputs(layer)} == {layer.kernel.shape[2] // 2}

    def test_int8_runs_every_convolution_on_constant_int8_kernels(
        self, trained: Any, predictor: Any, small: list, tmp_path: Path
    ) -> None:
        pytest.importorskip("ai_edge_quantizer")
        from ai_edge_litert.interpreter import Interpreter

        import deploy
        from kseg.data import preprocess

        path = tmp_path / "model.tflite"
        image = preprocess(small[0].image, SPEC.normalization)[None]
        deploy.export(
            trained[0], path, size=small[0].mask.shape, precision="int8", calibration=small, verify=False
        )
        interpreter = Interpreter(str(path))
        details = {item["index"]: item for item in interpreter.get_tensor_details()}
        convolutions = [op for op in interpreter._get_ops_details() if op["op_name"] == "CONV_2D"]
        assert len(convolutions) == 3 * len(EXTRACTOR) + 1  # every stage at every scale, and the classifier
        for operator in convolutions:
            kernel = details[operator["inputs"][1]]
            assert kernel["dtype"] == np.int8
            # A kernel that was computed in the graph would have no data before the first run.
            assert interpreter.get_tensor(kernel["index"]).any()
        runtime = deploy.load(path)
        found, expected = runtime(image), predictor.runtime(image)
        runtime.close()
        assert (found.argmax(-1) == expected.argmax(-1)).mean() > 0.97


class TestFarabetNetSingleScaleMLP(ModelBattery):
    architecture = "FarabetNet"
    # One scale sees 46 pixels; of blocks of 32 the paper's window leaves the edges and no colours.
    toy: ClassVar = {
        "width": 0.25,
        "scales": 1,
        "classifier": "mlp",
        "hidden": 128,
        "chroma": "both",
        "window": 63,
    }
    rate = 5e-3


@pytest.mark.parametrize(
    ("arguments", "extractor", "classifier"),
    [
        ({}, 427_616, 6_152),
        ({"classifier": "mlp"}, 427_616, 795_656),
        ({"chroma": "both"}, 427_910, 6_152),
        ({"scales": 1}, 427_616, 8 * 257),
    ],
)
def test_weights_are_the_papers_connections(arguments: dict, extractor: int, classifier: int) -> None:
    with shapes_only():
        model = FarabetNet(num_classes=8, **arguments)
        assert parameters(model) == (extractor + classifier, extractor + classifier)
        layers = [model.get_layer(name) for name in EXTRACTOR]
        assert sum(layer.count_params() for layer in layers) == extractor


def test_one_extractor_serves_three_scales() -> None:
    model = FarabetNet(input_shape=(96, 128, 3), **SMALL)
    convolutions = [layer for layer in model.layers if isinstance(layer, ConnectionTableConv2D)]
    assert [layer.name for layer in convolutions] == list(EXTRACTOR)
    sizes = [node.outputs[0].shape[1:3] for node in model.get_layer("conv3")._inbound_nodes]
    assert sizes == [(24, 32), (12, 16), (6, 8)]


def test_tables_have_ten_luma_and_six_colour_maps_then_8_of_16_then_32_of_64() -> None:
    model = FarabetNet(num_classes=2)
    first, second, third = (model.get_layer(name) for name in EXTRACTOR)
    assert first.table == [[0]] * 10 + [[1]] * 3 + [[2]] * 3
    assert chroma_table(16, "both") == [[0]] * 10 + [[1, 2]] * 6
    for layer, shape, fan_in in ((second, (7, 7, 16, 64), 8), (third, (7, 7, 64, 256), 32)):
        assert layer.kernel.shape == shape
        assert {len(row) for row in connected_inputs(layer)} == {fan_in}


def test_768_features_at_a_quarter_of_the_resolution() -> None:
    with shapes_only():
        for scales, count in ((3, 768), (1, 256)):
            model = FarabetNet(input_shape=(320, 240, 3), num_classes=8, scales=scales)
            assert model.get_layer("features").output.shape == (None, 80, 60, count)


def test_features_of_coarse_levels_are_repeated() -> None:
    model = FarabetNet(**SMALL)
    features = keras.Model(model.input, model.get_layer("features").output)
    found = run(features, batch(four_samples(64, 96))[0])
    maps = found.shape[-1] // 3
    for level in (1, 2):
        part = found[..., level * maps : (level + 1) * maps]
        coarse = part[:, :: 2**level, :: 2**level]
        np.testing.assert_array_equal(part, coarse.repeat(2**level, 1).repeat(2**level, 2))
        assert (coarse[:, 1:] != coarse[:, :-1]).any()


def receptive_field(layers: list[keras.layers.Layer]) -> tuple[int, int]:
    """Side and stride of what one output sees, from the windows and strides of the layers."""
    side, stride = 1, 1
    for layer in layers:
        window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", (1, 1))
        side += (window[0] - 1) * stride
        stride *= layer.strides[0] if hasattr(layer, "strides") else 1
    return side, stride


def test_a_feature_sees_46_pixels_of_its_level() -> None:
    model = FarabetNet(**SMALL)
    chain = [
        model.get_layer(name) for name in ("conv1", "pool1", "tanh1", "conv2", "pool2", "tanh2", "conv3")
    ]
    assert receptive_field(chain) == (46, 4)
    x = level = keras.Input((62, 62, 3))
    for layer in chain:
        x = layer(x)
    assert x.shape[1:3] == (5, 5)
    extractor = keras.Model(level, x)
    random = np.random.default_rng(0)
    image = random.normal(size=(1, 62, 62, 3)).astype("float32")
    changed = np.repeat(image, 62, axis=0)
    changed[range(62), range(62)] += 3  # pixel (i, i) in image i
    base, found = run(extractor, image), run(extractor, changed)
    seen = np.flatnonzero((np.abs(found - base) > 1e-6)[:, 2, 2].any(-1))
    assert (seen.min(), seen.max()) == (2 * 4, 2 * 4 + 45)


@pytest.mark.parametrize("size", [(64, 64), (37, 50), (1, 1)])
def test_constant_image_gives_zero_bands_and_one_answer_everywhere(size: tuple[int, int]) -> None:
    model = FarabetNet(**SMALL)
    names = ["pyramid", *(f"normalize{level}" for level in range(3))]
    inside = keras.Model(model.input, [model.get_layer(name).output for name in names])
    image = np.full((1, *size, 3), 0.3, "float32") * np.array([1, -2, 0.5], "float32")
    levels, *normalised = run(inside, image)
    assert not levels[0].any()
    assert not levels[1].any()
    for level in normalised:
        assert np.abs(level).max() < 1e-3
    logits = run(model, image)
    np.testing.assert_allclose(logits, np.broadcast_to(logits[:, :1, :1], logits.shape), atol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (47, 21)])
def test_any_size_gives_the_logits_of_the_mirrored_image(size: tuple[int, int]) -> None:
    keras.utils.set_random_seed(2)
    model = FarabetNet(**SMALL)
    image = np.random.default_rng(1).normal(size=(1, *size, 3)).astype("float32")
    logits = run(model, image)
    assert logits.shape == (1, *size, 3)
    below, right = (-side % 16 for side in size)
    whole = np.pad(image, ((0, 0), (0, below), (0, right), (0, 0)), mode="reflect")
    np.testing.assert_allclose(logits, run(model, whole)[:, : size[0], : size[1]], atol=1e-4)


def test_normalisation_of_the_images_is_undone() -> None:
    caffe = {"order": "bgr", "mean": [104.0, 117.0, 123.0], "std": [1.0, 1.0, 1.0]}
    picture = four_samples(32, 48)[0].image[None].astype("float32")
    one, two = FarabetNet(**SMALL), FarabetNet(normalization=caffe, **SMALL)
    two.set_weights(one.get_weights())
    expected = run(one, (picture - 127.5) / 127.5)
    found = run(two, picture[..., ::-1] - np.array(caffe["mean"], "float32"))
    np.testing.assert_allclose(found, expected, atol=1e-2 * np.abs(expected).max())
    again = create(two.info.architecture, **two.info.arch_args)
    assert again.get_layer("yuv").normalization.order == "bgr"


def test_mlp_begins_with_the_extractor_of_the_linear_net() -> None:
    linear, mlp = FarabetNet(seed=4, **SMALL), FarabetNet(classifier="mlp", seed=4, **SMALL)
    assert transfer(linear, mlp) == list(EXTRACTOR)
    images, _ = batch(four_samples(32, 48))
    found = [
        run(keras.Model(model.input, model.get_layer("features").output), images) for model in (linear, mlp)
    ]
    np.testing.assert_array_equal(*found)


def test_width_scales_maps_and_fan_ins_together() -> None:
    model = FarabetNet(num_classes=CLASSES, width=0.5)
    shapes = [model.get_layer(name).weights[0].shape for name in EXTRACTOR]
    assert shapes == [(8, 7, 7), (32 * 4, 7, 7), (128 * 16, 7, 7)]
    assert model.get_layer("conv1").table == [[0]] * 4 + [[1]] * 2 + [[2]] * 2


def test_operations_count_the_convolutions_at_every_scale() -> None:
    with shapes_only():
        model = FarabetNet(num_classes=8)
        single = FarabetNet(num_classes=8, scales=1)
        ratio = flops(model, (320, 240)) / flops(single, (320, 240))
    assert 1.25 < ratio < 1.55  # 1 + 1/4 + 1/16, and margins


def test_wrong_arguments_are_named() -> None:
    for arguments, message in (
        ({"classifier": "mpl"}, "`classifier` must be one of .* Did you mean 'mlp'"),
        ({"chroma": "uv"}, "`chroma` must be one of split, both"),
        ({"scales": 0}, "`scales` must be a positive integer. Received: scales=0"),
        ({"scales": 7}, "`scales` must be at most 6"),
        ({"hidden": 1.5}, "`hidden` must be a positive integer"),
        ({"window": 4}, "`window` must be odd"),
        ({"input_shape": (None, None, 1)}, "`input_shape` must have 3 channels"),
        ({"weights": "imagenet"}, "`weights` must be None or the path"),
    ):
        with pytest.raises(UsageError, match=message):
            FarabetNet(**{**SMALL, **arguments})


def test_the_paper_s_size_is_exported_to_tflite(tmp_path: Path) -> None:
    """Three large layers, each called at three scales: thin ones do not show what becomes of them."""
    pytest.importorskip("ai_edge_litert")
    import deploy

    model = FarabetNet(num_classes=CLASSES)
    model.spec = SPEC
    path = tmp_path / "farabet.tflite"
    deploy.export(model, path, size=(32, 48), verify=False)
    x = np.random.default_rng(0).normal(size=(1, 32, 48, 3)).astype("float32")
    runtime = deploy.load(path)
    np.testing.assert_allclose(runtime(x), run(model, x), atol=1e-4)
    assert path.stat().st_size < 1.2 * 4 * (7 * 7 * (3 * 16 + 16 * 64 + 64 * 256) + 768 * CLASSES)
