"""What every loss must do; each test runs over every registered name and one sum."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import reference_losses

from kseg import losses
from kseg.errors import UsageError

tf = pytest.importorskip("tensorflow")

SUM = "cross_entropy + 0.5*dice"
NAMES = [*losses.names(), SUM]
CLASSES = 4
WEIGHTS = (0.5, 2.0, 1.5, 1.0)
IGNORE = 255


def make_batch(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels (2, 6, 7) with void and without class 3; logits (2, 6, 7, 4)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (2, 6, 7)).astype("int32")
    labels[rng.random(labels.shape) < 0.3] = IGNORE
    return labels, (2 * rng.normal(size=(*labels.shape, CLASSES))).astype("float32")


def value_and_gradient(loss, labels, logits, sample_weight=None) -> tuple[float, np.ndarray]:
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(labels, logits, sample_weight)
    return float(value), tape.gradient(value, logits).numpy()


def expected(name: str, labels, logits, ignore_id=IGNORE, weights=(1.0,) * CLASSES) -> float:
    if name == SUM:
        parts = ((1.0, "cross_entropy"), (0.5, "dice"))
        return sum(w * expected(part, labels, logits, ignore_id, weights) for w, part in parts)
    return reference_losses.REFERENCES[name](labels, logits, ignore_id, weights)


def test_every_loss_has_a_reference():
    assert sorted(reference_losses.REFERENCES) == losses.names()


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("name", NAMES)
def test_equals_numpy(name, weights):
    labels, logits = make_batch()
    value = float(losses.create(name, class_weights=weights)(labels, logits))
    assert value == pytest.approx(expected(name, labels, logits, weights=weights or (1.0,) * 4), rel=2e-5)


@pytest.mark.parametrize("ignore_id", [-1, 2, 200])
@pytest.mark.parametrize("name", NAMES)
def test_any_ignore_id(name, ignore_id):
    labels, logits = make_batch()
    labels[labels == IGNORE] = ignore_id
    value = float(losses.create(name, ignore_id=ignore_id)(labels, logits))
    assert value == pytest.approx(expected(name, labels, logits, ignore_id), rel=2e-5)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("name", NAMES)
def test_logits_under_ignored_pixels_change_nothing(name, weights):
    labels, logits = make_batch()
    loss = losses.create(name, class_weights=weights)
    value, gradient = value_and_gradient(loss, labels, logits)
    void = labels == IGNORE
    for other in (-3.0 * logits, np.full_like(logits, 1e4) * [1, -1, 0, 2]):
        changed = np.where(void[..., None], other, logits).astype("float32")
        changed_value, changed_gradient = value_and_gradient(loss, labels, changed)
        assert changed_value == value
        np.testing.assert_array_equal(changed_gradient, gradient)
    assert not gradient[void].any()
    assert gradient[~void].any()


@pytest.mark.parametrize("name", NAMES)
def test_all_ignored_is_zero(name):
    labels, logits = make_batch()
    for present_only in (True, False):
        options = {"present_only": present_only} if name in ("dice", "jaccard", "lovasz", "tversky") else {}
        loss = losses.create(name, **options)
        value, gradient = value_and_gradient(loss, np.full_like(labels, IGNORE), logits)
        assert value == 0.0
        np.testing.assert_array_equal(gradient, np.zeros_like(logits))


@pytest.mark.parametrize("name", NAMES)
def test_right_logits_cost_nothing_and_wrong_ones_much(name):
    labels, _ = make_batch()
    right = 40.0 * np.eye(CLASSES, dtype="float32")[np.where(labels == IGNORE, 0, labels)]
    loss = losses.create(name)
    value, gradient = value_and_gradient(loss, labels, right)
    assert value == pytest.approx(0.0, abs=1e-5)
    assert np.isfinite(gradient).all()
    assert float(loss(labels, np.roll(right, 1, axis=-1))) > 0.5


@pytest.mark.parametrize("name", NAMES)
def test_ids_outside_the_classes_are_left_out(name):
    labels, logits = make_batch()
    value, gradient = value_and_gradient(losses.create(name), labels, logits)
    for wrong in (CLASSES, 99, -7):
        other = np.where(labels == IGNORE, wrong, labels)
        other_value, other_gradient = value_and_gradient(losses.create(name), other, logits)
        assert other_value == value
        np.testing.assert_array_equal(other_gradient, gradient)


@pytest.mark.parametrize("name", NAMES)
def test_last_axis_dtypes_and_unknown_sizes(name):
    labels, logits = make_batch()
    loss = losses.create(name)
    value = float(loss(labels, logits))
    assert float(loss(labels[..., None], logits)) == value
    assert float(loss(labels.astype("uint8"), logits)) == value
    assert float(loss(labels.astype("float32"), logits)) == value
    low = tf.cast(logits, tf.bfloat16)
    result = loss(labels, low)
    assert result.dtype == tf.float32
    assert float(result) == pytest.approx(float(loss(labels, tf.cast(low, tf.float32))), rel=1e-6)
    unknown = [tf.TensorSpec([None] * 3, tf.int32), tf.TensorSpec([None] * 3 + [CLASSES], tf.float32)]
    for jit in (False, True):
        graph = tf.function(lambda y, p: loss(y, p), input_signature=unknown, jit_compile=jit)
        assert float(graph(labels, logits)) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_sample_weights(name):
    labels, logits = make_batch()
    loss = losses.create(name)
    value = float(loss(labels, logits))
    ones = np.ones(2, "float32")
    assert float(loss(labels, logits, ones)) == pytest.approx(value, rel=1e-6)
    image = np.array([0.25, 2.0], "float32")
    pixel = np.broadcast_to(image[:, None, None], labels.shape)
    weighted = float(loss(labels, logits, image))
    assert weighted != pytest.approx(value, rel=1e-3)
    for same in (pixel, pixel[..., None], image[:, None]):
        assert float(loss(labels, logits, same)) == pytest.approx(weighted, rel=1e-6)
    _, gradient = value_and_gradient(loss, labels, logits, np.array([0.0, 1.0], "float32"))
    assert not gradient[0].any()


@pytest.mark.parametrize("name", NAMES)
def test_serialises(name):
    labels, logits = make_batch()
    loss = losses.create(name, ignore_id=1, class_weights=np.array(WEIGHTS))
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
    twin = keras.saving.deserialize_keras_object(config)
    assert type(twin) is type(loss)
    assert twin.get_config() == loss.get_config()
    assert float(twin(labels, logits)) == float(loss(labels, logits))


def test_reductions():
    labels, logits = make_batch()
    valid = int((labels != IGNORE).sum())
    weight = np.random.default_rng(1).random(labels.shape).astype("float32")

    def loss(reduction, sample_weight=None):
        return losses.PixelCrossEntropy(reduction=reduction)(labels, logits, sample_weight).numpy()

    values = loss(None)
    assert values.shape == labels.shape
    assert not values[labels == IGNORE].any()
    assert loss("sum") == pytest.approx(values.sum(), rel=1e-5)
    assert loss("sum_over_batch_size") == pytest.approx(values.sum() / valid, rel=1e-5)
    assert loss("mean", weight) == pytest.approx((values * weight).sum() / valid, rel=1e-5)
    weighted = (values * weight).sum() / weight[labels != IGNORE].sum()
    assert loss("mean_with_sample_weight", weight) == pytest.approx(weighted, rel=1e-5)


def test_untrained_net_costs_log_of_classes():
    labels, logits = make_batch()
    assert float(losses.create("ce")(labels, 0 * logits)) == pytest.approx(np.log(CLASSES), rel=1e-6)


def test_label_smoothing_equals_keras():
    labels, logits = make_batch()
    keep = labels != IGNORE
    target = np.eye(CLASSES, dtype="float32")[labels[keep]]
    reference = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    value = float(losses.create("ce", label_smoothing=0.1)(labels, logits))
    assert value == pytest.approx(float(reference(target, logits[keep])), rel=1e-5)


@pytest.mark.parametrize(("threshold", "min_kept"), [(0.01, 0.25), (0.3, 0.02), (1.0, 0.1)])
def test_online_hard_examples_bounds(threshold, min_kept):
    labels, logits = make_batch()
    value = float(losses.create("ohem", threshold=threshold, min_kept=min_kept)(labels, logits))
    reference = reference_losses.ohem(labels, logits, IGNORE, (1.0,) * CLASSES, threshold, min_kept)
    assert value == pytest.approx(reference, rel=2e-5)


def test_absent_class_counts_only_on_request():
    labels, logits = make_batch()
    logits[..., 3] += 3.0  # class 3 is predicted everywhere and true nowhere
    for name in ("dice", "jaccard", "tversky", "lovasz"):
        assert float(losses.create(name, present_only=False)(labels, logits)) > float(
            losses.create(name)(labels, logits)
        )


def test_lovasz_of_an_absent_class_is_its_highest_probability():
    labels, logits = make_batch()
    loss = losses.Lovasz(class_weights=[0, 0, 0, CLASSES], present_only=False)
    probabilities = tf.nn.softmax(logits).numpy()[..., 3][labels != IGNORE]
    assert float(loss(labels, logits)) == pytest.approx(float(probabilities.max()), rel=1e-6)


def test_focal_gradient_is_finite_below_gamma_one():
    labels, _ = make_batch()
    right = 60.0 * np.eye(CLASSES, dtype="float32")[np.where(labels == IGNORE, 0, labels)]
    _, gradient = value_and_gradient(losses.create("focal", gamma=0.5), labels, right)
    assert np.isfinite(gradient).all()


def test_lovasz_keeps_its_digits_on_a_large_image():
    rng = np.random.default_rng(0)
    labels = (rng.random((1, 400, 500)) < 0.3).astype("int32")
    logits = rng.normal(size=(1, 400, 500, 2)).astype("float32")
    reference = reference_losses.lovasz(labels, logits, IGNORE, (1.0, 1.0))
    assert float(losses.create("lovasz")(labels, logits)) == pytest.approx(reference, rel=1e-5)


def test_names_are_forgiving_and_suggest():
    assert type(losses.create("Cross-Entropy")) is losses.PixelCrossEntropy
    assert type(losses.create("LOVASZ softmax")) is losses.Lovasz
    assert type(losses.create("OnlineHardExample")) is losses.OnlineHardExample
    combined = losses.create("focal+2*Dice", gamma=3.0, ignore_id=7)
    assert [type(part) for part in combined.losses] == [losses.Focal, losses.Dice]
    assert combined.weights == [1.0, 2.0]
    assert (combined.losses[0].gamma, combined.losses[1].ignore_id) == (3.0, 7)
    with pytest.raises(UsageError, match="Did you mean 'jaccard'"):
        losses.create("jacard")
    with pytest.raises(UsageError, match=r"has no argument `gama`.*Did you mean 'gamma'"):
        losses.create("focal", gama=2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.create("x*dice"), "name or a sum"),
        (lambda: losses.create("1.2.3*dice"), "no number"),
        (lambda: losses.create("ce+"), "name or a sum"),
        (lambda: losses.create("ce", class_weights=[1, -1]), "finite number >= 0"),
        (lambda: losses.create("ce", class_weights=[1, float("nan")]), "finite number >= 0"),
        (lambda: losses.create("ce", label_smoothing=1.0), r"\[0, 1\)"),
        (lambda: losses.create("focal", gamma=-1), ">= 0"),
        (lambda: losses.create("ohem", threshold=0), r"\(0, 1\]"),
        (lambda: losses.create("dice", smooth=0), "> 0"),
        (lambda: losses.create("tversky", alpha=-1), ">= 0"),
        (lambda: losses.Combined([]), "at least one"),
        (lambda: losses.Combined([losses.Dice()], [1, 2]), "one finite number"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize(
    ("labels_shape", "logits_shape", "message"),
    [
        ((2, 6, 7, 4), (2, 6, 7, 4), "not one-hot"),
        ((2, 6, 7), (2, 3, 4, 4), "must agree"),
        ((2, 6, 7), (2, 6, 7, 1), "C >= 2"),
        ((2, 6, 7), (2, 6, 7, 5), "one number per class"),
    ],
)
def test_wrong_shapes(labels_shape, logits_shape, message):
    loss = losses.PixelCrossEntropy(class_weights=WEIGHTS)
    with pytest.raises(UsageError, match=message):
        loss(np.zeros(labels_shape, "int32"), np.zeros(logits_shape, "float32"))


_OTHER_BACKEND = """
import json, sys
import jax, keras, numpy as np
from kseg import losses
assert keras.backend.backend() == "jax"
data = np.load(sys.argv[1])
labels, logits = data["labels"], data["logits"]
answer = {}
for name in sys.argv[2:]:
    loss = losses.create(name, class_weights=[0.5, 2.0, 1.5, 1.0])
    value, gradient = jax.jit(jax.value_and_grad(lambda p: loss(labels, p)))(logits)
    answer[name] = [float(value), np.asarray(gradient).reshape(-1).tolist()]
print(json.dumps(answer))
"""


def test_same_numbers_on_jax(tmp_path):
    pytest.importorskip("jax")
    labels, logits = make_batch()
    np.savez(tmp_path / "batch.npz", labels=labels, logits=logits)
    done = subprocess.run(
        [sys.executable, "-c", _OTHER_BACKEND, str(tmp_path / "batch.npz"), *NAMES],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    for name in NAMES:
        value, gradient = value_and_gradient(losses.create(name, class_weights=WEIGHTS), labels, logits)
        assert answer[name][0] == pytest.approx(value, rel=1e-5)
        np.testing.assert_allclose(np.reshape(answer[name][1], gradient.shape), gradient, atol=1e-6)


def test_trains_in_fit_with_sample_weights():
    labels, logits = make_batch()
    images = logits[..., :3]
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(CLASSES, 1)(inputs))
    model.compile(optimizer=keras.optimizers.SGD(0.5), loss=losses.create(SUM))
    history = model.fit(images, labels, sample_weight=np.array([1.0, 0.5]), epochs=8, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
