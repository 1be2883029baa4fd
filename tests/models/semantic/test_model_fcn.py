"""The FCN family through the battery: clean and paper form, several encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import pytest
from battery import SPEC, ModelBattery, batch, four_samples

import kseg
from kseg.errors import UsageError
from kseg.inference import Predictor, evaluate
from kseg.losses import PixelCrossEntropy
from kseg.models import FCN8s, FCN16s, FCNAlexNet, create, rebuild
from kseg.models.forms import MAIN, heads, with_heads
from kseg.models.summary import parameters, shapes_only

TWO_HEADS: dict[str, Any] = {
    "num_classes": 3,
    "encoder": "resnet18",
    "width": 0.125,
    "head_channels": 16,
    "dropout": 0.0,
    "geometric_classes": 2,
    "geometric_labels": [0, 1, 1],
}


class TestFCN8s(ModelBattery):
    architecture = "FCN8s"
    toy: ClassVar = {"encoder": "resnet18", "width": 0.125, "head_channels": 32}
    rate = 1e-2
    steps = 30


class TestFCN8sPaper(ModelBattery):
    architecture = "FCN8s"
    toy: ClassVar = {"padding": "paper", "width": 0.1, "head_channels": 16}
    size = (64, 64)
    steps = 30


class TestFCN16s(ModelBattery):
    architecture = "FCN16s"
    toy: ClassVar = {"encoder": "vgg16", "upsampling": "learned", "width": 0.1, "head_channels": 32}
    steps = 50


class TestFCN32s(ModelBattery):
    architecture = "FCN32s"
    toy: ClassVar = {"encoder": "alexnet", "width": 0.25, "head_channels": 32}
    rate = 1e-2
    steps = 50


class TestFCN8sAtOnce(ModelBattery):
    architecture = "FCN8sAtOnce"
    toy: ClassVar = {"encoder": "vgg16", "width": 0.1, "head_channels": 32}
    steps = 70


class TestFCNAlexNet(ModelBattery):
    architecture = "FCNAlexNet"
    toy: ClassVar = {"padding": "paper", "width": 0.25, "head_channels": 32}
    size = (64, 64)
    steps = 60


def test_choices_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match="padding='paper' is defined for the encoders vgg16 and alexnet"):
        FCN8s(encoder="resnet18", padding="paper")
    with pytest.raises(UsageError, match="no skips over AlexNet"):
        FCN16s(encoder="alexnet", padding="paper")
    with pytest.raises(UsageError, match="must be 'alexnet'"):
        FCNAlexNet(encoder="vgg16")
    with pytest.raises(UsageError, match=r"`upsampling` must be one of .* Did you mean 'learned'"):
        FCN8s(upsampling="learnt")


def test_two_heads_have_the_parameters_of_sift_flow() -> None:
    with shapes_only():
        model = FCN8s(num_classes=33, geometric_classes=3, geometric_labels=[0, 1, 2] * 11)
    assert parameters(model) == (134_435_756, 134_435_756)


@pytest.fixture(scope="module")
def two_headed() -> tuple[keras.Model, dict[str, list[float]]]:
    """A network whose heads were trained together, each on its own labels."""
    keras.utils.set_random_seed(0)
    model = FCN8s(**TWO_HEADS)
    images, masks = batch(four_samples(64, 96))
    loss = PixelCrossEntropy(ignore_id=SPEC.ignore_id)
    trained = with_heads(model)
    trained.compile(keras.optimizers.Adam(1e-2), {MAIN: loss, "geometric": loss}, jit_compile=False)
    geometric = np.where(masks == SPEC.ignore_id, masks, np.minimum(masks, 1))
    history = trained.fit(
        images, {MAIN: masks, "geometric": geometric}, batch_size=4, epochs=12, verbose=0, shuffle=False
    )
    model.spec = SPEC
    return model, history.history


def _answers(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.asarray(values) for name, values in with_heads(model)(images, training=False).items()}


def test_both_heads_learn(two_headed: Any) -> None:
    model, history = two_headed
    (head,) = heads(model)
    assert (head.name, head.labels, head.output.shape[-1]) == ("geometric", (0, 1, 1), 2)
    for name in (f"{MAIN}_loss", "geometric_loss"):
        assert history[name][-1] < 0.5 * history[name][0], name


def test_either_head_can_be_the_output_and_no_file_loses_the_other(two_headed: Any, tmp_path: Path) -> None:
    model = two_headed[0]
    images, _ = batch(four_samples(64, 96))
    expected = _answers(model, images)
    kseg.save(model, tmp_path / "semantic.keras")
    loaded = kseg.load(tmp_path / "semantic.keras")
    np.testing.assert_array_equal(np.asarray(loaded(images, training=False)), expected[MAIN])

    geometric = rebuild(loaded, output_head="geometric")
    assert geometric.output.shape == (None, None, None, 2)
    np.testing.assert_array_equal(np.asarray(geometric(images, training=False)), expected["geometric"])
    # A view for prediction: its main output is not what the class ids of the data are about.
    assert heads(geometric) == ()

    kseg.save(geometric, tmp_path / "geometric.keras")
    loaded = kseg.load(tmp_path / "geometric.keras")
    assert loaded.spec.classes == ("red", "green+blue")
    back = rebuild(loaded, output_head="semantic")
    assert back.spec == model.spec.replace(
        architecture="FCN8s", arch_args=dict(back.info.arch_args), kseg_version=kseg.__version__
    )
    for name, values in _answers(back, images).items():
        np.testing.assert_array_equal(values, expected[name])


class Labelled(list):
    """Samples that know their classes."""

    spec = SPEC


def test_the_geometric_head_is_scored_in_unions_of_the_classes(two_headed: Any) -> None:
    model = two_headed[0]
    samples = Labelled(four_samples(64, 96))
    confusion = evaluate(Predictor(rebuild(model, output_head="geometric")), samples)
    truth = np.stack([sample.mask for sample in samples])
    images, _ = batch(samples)
    found = _answers(model, images)["geometric"].argmax(-1)
    valid = truth != SPEC.ignore_id
    expected = np.bincount(np.minimum(truth, 1)[valid] * 2 + found[valid], minlength=4)
    np.testing.assert_array_equal(confusion.matrix.ravel(), expected)
    assert confusion.scores()["pixel_acc"] > 0.6


def _convolutions(path: Path) -> int:
    """Number of convolutions in an artefact."""
    if path.suffix == ".onnx":
        import onnx

        return sum(node.op_type == "Conv" for node in onnx.load(path).graph.node)
    from ai_edge_litert.interpreter import Interpreter

    return sum(item["op_name"] == "CONV_2D" for item in Interpreter(str(path))._get_ops_details())


@pytest.mark.parametrize("suffix", ["tflite", "onnx"])
def test_artefacts_hold_one_head(two_headed: Any, tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("ai_edge_litert" if suffix == "tflite" else "onnxruntime")
    import deploy

    geometric = rebuild(two_headed[0], output_head="geometric")
    path = tmp_path / f"geometric.{suffix}"
    deploy.export(geometric, path, size=(64, 96), verify=False)
    assert deploy.read_spec(path).classes == ("red", "green+blue")
    images, _ = batch(four_samples(64, 96))
    expected = np.asarray(geometric(images[:1], training=False))
    runtime = deploy.load(path)
    np.testing.assert_allclose(runtime(images[:1]), expected, atol=1e-3 * np.abs(expected).max())
    runtime.close()
    # All but the three scores of the other head.
    layers = sum(isinstance(layer, keras.layers.Conv2D) for layer in geometric.layers)
    assert _convolutions(path) == layers - 3


@pytest.mark.parametrize("name", ["FCN32s", "FCN16s", "FCNAlexNet"])
def test_every_member_takes_a_second_head(name: str) -> None:
    arguments = {**TWO_HEADS, "encoder": "alexnet", "padding": "paper" if name == "FCNAlexNet" else "same"}
    model = create(name, input_shape=(64, 64, 3), **arguments)
    shapes = {key: tensor.shape for key, tensor in with_heads(model).output.items()}
    assert shapes == {MAIN: (None, 64, 64, 3), "geometric": (None, 64, 64, 2)}
    assert model.layers[-1].name == MAIN


@pytest.mark.parametrize("count", [0, -4, 1.5, True, "a"])
@pytest.mark.parametrize("encoder", ["vgg16", "resnet18"])
def test_channels_of_the_head_are_a_positive_integer(encoder: str, count: Any) -> None:
    with pytest.raises(UsageError, match="FCN8s: argument `head_channels` must be a positive integer"):
        FCN8s(num_classes=3, encoder=encoder, width=0.125, head_channels=count)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"geometric_labels": [0, 1]}, "each of the 3 classes its geometric class, 0 to 1"),
        ({"geometric_labels": [0, 1, 2]}, "geometric class, 0 to 1"),
        ({"geometric_labels": [0, True, 1]}, "geometric class, 0 to 1"),
        ({"geometric_labels": None}, "`geometric_labels` must give"),
        ({"geometric_classes": 0}, "`geometric_classes` must be a positive integer"),
        ({"geometric_classes": None}, "needs geometric_classes"),
        ({"output_head": "geometry"}, "Did you mean 'geometric'"),
    ],
)
def test_arguments_of_the_second_head_are_checked(changes: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        FCN8s(**{**TWO_HEADS, **changes})
    with pytest.raises(UsageError, match="needs geometric_classes"):
        FCN8s(num_classes=3, output_head="geometric")
