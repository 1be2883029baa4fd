"""The Keras metrics: equal to the numpy matrix, exact at any size, in fit, on JAX."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from kseg import metrics
from kseg.errors import DataError, UsageError
from kseg.metrics import SCORES, Confusion

tf = pytest.importorskip("tensorflow")

KINDS = {
    "miou": metrics.MeanIoU,
    "miou_present": metrics.MeanIoUPresent,
    "pixel_acc": metrics.PixelAccuracy,
    "mean_acc": metrics.MeanAccuracy,
    "fwiou": metrics.FrequencyWeightedIoU,
}
CLASSES = 5


def make_batch(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels (3, 8, 9) with void and without class 3; logits that never choose class 4."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (3, 8, 9)).astype("int32")
    labels[rng.random(labels.shape) < 0.2] = 255
    labels[0, 0, 0] = 4
    logits = rng.normal(size=(*labels.shape, CLASSES)).astype("float32")
    logits[..., 4] = -9
    return labels, logits


@pytest.mark.parametrize("name", KINDS)
def test_equals_numpy_under_its_name(name):
    labels, logits = make_batch()
    metric = KINDS[name](CLASSES)
    assert metric.name == name
    assert float(metric.result()) == 0.0
    metric.update_state(labels, logits)
    reference = Confusion(CLASSES).update(labels, logits.argmax(-1))
    assert float(metric.result()) == pytest.approx(reference.scores()[name], rel=1e-6)
    np.testing.assert_array_equal(metric.confusion().matrix, reference.matrix)
    metric.reset_state()
    assert float(metric.result()) == 0.0


def test_all_scores_and_classes_from_one_matrix():
    labels, logits = make_batch()
    scores = Confusion(CLASSES).update(labels, logits.argmax(-1)).scores()
    metric = metrics.SegmentationMetrics(CLASSES, class_names=list("abcde"))
    metric.update_state(labels, logits)
    result = {name: float(value) for name, value in metric.result().items()}
    assert set(result) == {*SCORES, *(f"iou_{name}" for name in "abcde")}
    for name in SCORES:
        assert result[name] == pytest.approx(scores[name], rel=1e-6)
    for index, name in enumerate("abcde"):
        assert result[f"iou_{name}"] == pytest.approx(scores["iou"][index] or 0.0, rel=1e-6)
        single = metrics.ClassIoU(CLASSES, index)
        single.update_state(labels, logits)
        assert single.name == f"iou_{index}"
        assert float(single.result()) == result[f"iou_{name}"]


def test_ids_last_axis_dtypes_and_pieces():
    labels, logits = make_batch()
    whole = metrics.MeanIoU(CLASSES)
    whole.update_state(labels, logits)
    pieces = metrics.MeanIoU(CLASSES)
    pieces.update_state(labels[:1, ..., None].astype("uint8"), tf.cast(logits[:1], tf.float64))
    pieces.update_state(labels[1:2].astype("float32"), logits[1:2].argmax(-1))
    pieces.update_state(labels[2:], logits[2:].argmax(-1).astype("uint8")[..., None])
    np.testing.assert_array_equal(pieces.confusion().matrix, whole.confusion().matrix)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_logits(dtype):
    labels, logits = make_batch()
    low = tf.cast(logits, dtype)
    metric = metrics.MeanIoU(CLASSES)
    metric.update_state(labels, low)
    wanted = Confusion(CLASSES).update(labels, tf.cast(low, "float32").numpy().argmax(-1))
    np.testing.assert_array_equal(metric.confusion().matrix, wanted.matrix)


def test_ties_go_to_the_lower_class():
    metric = metrics.ConfusionMatrix(3)
    metric.update_state(np.zeros((1, 1, 2), "int32"), np.array([[[[0, 0, 0], [-1, 2, 2]]]], "float32"))
    np.testing.assert_array_equal(metric.result(), [[1, 1, 0], [0, 0, 0], [0, 0, 0]])


def test_ignored_pixels_drop_out():
    labels, logits = make_batch()
    metric, other = metrics.MeanIoU(CLASSES), metrics.MeanIoU(CLASSES)
    metric.update_state(labels, logits)
    other.update_state(labels, np.where((labels == 255)[..., None], -logits, logits))
    assert float(metric.result()) == float(other.result())
    other.update_state(np.full_like(labels, 255), logits)
    np.testing.assert_array_equal(metric.confusion().matrix, other.confusion().matrix)


def test_exact_beyond_2_to_the_24_and_2_to_the_31():
    metric = metrics.PixelAccuracy(2)
    # One cell short of a carry, with 2^40 counted before: float32 and int32 would both lose the ones.
    metric.low.assign(np.array([[2**24 - 1, 5, 0], [0, 0, 0], [0, 0, 0]], "int32"))
    metric.high.assign(np.array([[2**16, 0, 0], [0, 0, 0], [0, 0, 0]], "int32"))
    for _ in range(3):
        metric.update_state(np.zeros((1, 1, 3), "int32"), np.array([[[0, 0, 1]]]))
    matrix = metric.confusion().matrix
    assert matrix.tolist() == [[2**40 + 2**24 - 1 + 6, 8], [0, 0]]
    assert int(metric.low.numpy()[0, 0]) == 5


def test_exact_when_counted_in_big_batches():
    metric = metrics.PixelAccuracy(2)
    labels = np.zeros((1, 3000, 3000), "uint8")
    prediction = labels.copy()
    prediction[0, 0, 0] = 1
    for _ in range(3):
        metric.update_state(labels, prediction)
    assert metric.confusion().matrix.tolist() == [[3 * (9_000_000 - 1), 3], [0, 0]]


def test_ids_out_of_range_are_told():
    metric = metrics.PixelAccuracy(3)
    metric.update_state(np.zeros((1, 1, 4), "int32"), np.array([[[0, 0, 0, 3]]]))
    assert float(metric.result()) == 0.75
    with pytest.raises(UsageError, match="1 predicted ids are outside 0-2"):
        metric.confusion()
    metric.reset_state()
    metric.update_state(np.array([[[0, 7, -3, 255]]]), np.zeros((1, 1, 4), "int32"))
    assert float(metric.result()) == 1.0
    with pytest.raises(DataError, match="2 pixels of the truth"):
        metric.confusion()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: metrics.MeanIoU(1), "num_classes"),
        (lambda: metrics.ClassIoU(3, 3), "class_id"),
        (lambda: metrics.SegmentationMetrics(3, class_names=["a"]), "one name per class"),
        (lambda: metrics.MeanIoU(4).update_state(*make_batch()), r"\(B, H, W, 4\)"),
        (lambda: metrics.MeanIoU(5).update_state(make_batch()[0][:, 1:], make_batch()[1]), "must agree"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_serialise():
    for metric in [
        *(kind(4, ignore_id=9) for kind in KINDS.values()),
        metrics.ClassIoU(4, 2, ignore_id=9),
        metrics.SegmentationMetrics(2, class_names=["a", "b"]),
    ]:
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(metric)))
        twin = keras.saving.deserialize_keras_object(config)
        assert type(twin) is type(metric)
        assert twin.get_config() == metric.get_config()


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("steps_per_execution", [1, 3])
def test_in_fit(steps_per_execution, jit):
    labels, logits = make_batch()
    inputs = keras.Input((None, None, CLASSES))
    # One frozen identity layer that passes the logits on: the right answer is known.
    outputs = keras.layers.Dense(CLASSES, kernel_initializer="identity", trainable=False)(inputs)
    model = keras.Model(inputs, outputs)
    model.compile(
        optimizer="sgd",
        loss=lambda y_true, y_pred: keras.ops.sum(y_pred) * 0.0,
        metrics=[metrics.SegmentationMetrics(CLASSES), metrics.MeanIoU(CLASSES, name="again")],
        steps_per_execution=steps_per_execution,
        jit_compile=jit,
    )
    scores = Confusion(CLASSES).update(labels, logits.argmax(-1)).scores()
    first = Confusion(CLASSES).update(labels[:1], logits[:1].argmax(-1)).scores()
    data = {"x": logits, "y": labels, "batch_size": 1, "epochs": 2, "verbose": 0}
    history = model.fit(**data, validation_data=(logits[:1], labels[:1])).history
    for name in SCORES:
        assert history[name] == pytest.approx([scores[name]] * 2, rel=1e-6)
        assert history[f"val_{name}"] == pytest.approx([first[name]] * 2, rel=1e-6)
    assert history["again"] == history["miou"]
    assert model.evaluate(logits, labels, return_dict=True, verbose=0)["miou"] == history["miou"][0]


_OTHER_BACKEND = """
import json, sys
import keras, numpy as np
from kseg import metrics
assert keras.backend.backend() == "jax"
data = np.load(sys.argv[1])
labels, logits = data["labels"], data["logits"]
inputs = keras.Input((None, None, logits.shape[-1]))
outputs = keras.layers.Dense(logits.shape[-1], kernel_initializer="identity")(inputs)
model = keras.Model(inputs, outputs)
metric = metrics.SegmentationMetrics(logits.shape[-1])
model.compile(optimizer=keras.optimizers.SGD(0.0), loss=lambda y, p: keras.ops.sum(p) * 0.0,
              metrics=[metric], jit_compile=True)
history = model.fit(logits, labels, batch_size=1, verbose=0).history
metric.low.assign(np.full((6, 6), 2**24 - 1, "int32"))
metric.high.assign(np.full((6, 6), 0, "int32"))
metric.low.assign(metric.low * np.pad(np.ones((5, 5), "int32"), (0, 1)))
metric.update_state(labels, logits)
print(json.dumps([{k: v[0] for k, v in history.items()}, metric.confusion().matrix.tolist()]))
"""


def test_same_on_jax(tmp_path):
    pytest.importorskip("jax")
    labels, logits = make_batch()
    np.savez(tmp_path / "batch.npz", labels=labels, logits=logits)
    done = subprocess.run(
        [sys.executable, "-c", _OTHER_BACKEND, str(tmp_path / "batch.npz")],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    history, matrix = json.loads(done.stdout.strip().splitlines()[-1])
    reference = Confusion(CLASSES).update(labels, logits.argmax(-1))
    for name in SCORES:
        assert history[name] == pytest.approx(reference.scores()[name], rel=1e-6)
    np.testing.assert_array_equal(matrix, reference.matrix + 2**24 - 1)
