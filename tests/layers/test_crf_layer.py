"""The mean field layer against the O(N^2) sum over its window, its gradients, and its three runtimes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from kseg.errors import UsageError
from kseg.layers import MeanFieldCRF

Array = np.ndarray
STD = 127.5


def windowed_mean_field(logits: Array, image: Array, layer: MeanFieldCRF, steps: int) -> Array:
    """All pairs of pixels of one image, float64: kernels as matrices, zero outside the window."""
    height, width, classes = logits.shape
    rows, columns = np.mgrid[:height, :width]
    apart = [axis.reshape(-1, 1) - axis.reshape(1, -1) for axis in (rows, columns)]
    reach = layer.window // 2 * layer.dilation
    inside = np.ones_like(apart[0], bool)
    for distance in apart:
        inside &= (np.abs(distance) <= reach) & (distance % layer.dilation == 0)
    squared = (apart[0] ** 2 + apart[1] ** 2).astype("float64")
    color = (image.astype("float64") * np.asarray(layer.std)).reshape(height * width, -1)
    change = ((color[:, None] - color[None]) ** 2).sum(-1)
    bilateral = inside * np.exp(-squared / 2 / layer.theta_alpha**2 - change / 2 / layer.theta_beta**2)
    spatial = inside * np.exp(-squared / 2 / layer.theta_gamma**2)
    bilateral, spatial = (kernel / kernel.sum(1, keepdims=True) for kernel in (bilateral, spatial))
    m1, m2, m = layer.get_weights()
    unary = logits.astype("float64").reshape(-1, classes)
    q = unary
    for _ in range(steps):
        powers = np.exp(q - q.max(1, keepdims=True))
        share = powers / powers.sum(1, keepdims=True)
        q = unary - (bilateral @ share @ m1 + spatial @ share @ m2) @ m
    return q.reshape(logits.shape)


def inputs(height: int = 9, width: int = 11, classes: int = 4, count: int = 2) -> tuple[Array, Array]:
    random = np.random.default_rng(0)
    logits = random.normal(size=(count, height, width, classes)).astype("float32")
    return logits, random.normal(scale=0.3, size=(count, height, width, 3)).astype("float32")


def made(logits: Array, image: Array, **arguments: Any) -> MeanFieldCRF:
    arguments = {
        "iterations": 2,
        "test_iterations": 3,
        "window": 5,
        "theta_alpha": 4,
        "theta_beta": 60,
        "theta_gamma": 2,
        **arguments,
    }
    layer = MeanFieldCRF(**arguments)
    layer.build([logits.shape, image.shape])
    return layer


def with_random_matrices(layer: MeanFieldCRF) -> MeanFieldCRF:
    random = np.random.default_rng(2)
    layer.set_weights([random.normal(size=weight.shape) for weight in layer.weights])
    return layer


def run(layer: MeanFieldCRF, logits: Array, image: Array, training: bool = False) -> Array:
    return ops.convert_to_numpy(layer([logits, image], training=training))


@pytest.mark.parametrize(
    "arguments",
    [{}, {"dilation": 2}, {"window": 3, "std": (60.0, 80.0, 100.0)}, {"dilation": 4}],
    ids=["plain", "dilated", "channels", "window beyond the image"],
)
def test_equals_all_pairs_of_its_window(arguments: dict[str, Any]) -> None:
    logits, image = inputs(6, 7)
    layer = with_random_matrices(made(logits, image, **arguments))
    for training, steps in ((True, 2), (False, 3)):
        found = run(layer, logits, image, training)
        for index in range(len(logits)):
            expected = windowed_mean_field(logits[index], image[index], layer, steps)
            np.testing.assert_allclose(found[index], expected, atol=2e-5)


def test_iterations_can_be_changed_on_a_built_layer() -> None:
    logits, image = inputs(count=1)
    layer = made(logits, image)
    layer.test_iterations = 7
    expected = windowed_mean_field(logits[0], image[0], layer, 7)
    np.testing.assert_allclose(run(layer, logits, image)[0], expected, atol=2e-5)


def test_has_three_matrices_and_starts_as_potts() -> None:
    logits, image = inputs()
    layer = made(logits, image, w1=5, w2=3)
    assert layer.count_params() == 3 * 4**2
    for matrix, scale in zip(layer.get_weights(), (5, 3, -1), strict=True):
        np.testing.assert_array_equal(matrix, scale * np.eye(4, dtype="float32"))


def test_zero_kernels_leave_the_logits() -> None:
    logits, image = inputs()
    for stride in (1, 2):
        layer = made(logits, image, w1=0, w2=0, stride=stride)
        np.testing.assert_array_equal(run(layer, logits, image), logits)


def test_uniform_logits_keep_their_argmax() -> None:
    _, image = inputs()
    logits = np.tile(np.array([0.1, 0.9, 0.4, 0.2], "float32"), (2, 9, 11, 1))
    assert (run(made(logits, image), logits, image).argmax(-1) == 1).all()


def two_colours(height: int = 24, width: int = 32) -> tuple[Array, Array, Array]:
    """Truth, logits that are right in two of three pixels, and an image with an edge in column 13."""
    random = np.random.default_rng(5)
    truth = np.zeros((1, height, width), int)
    truth[:, :, 13:] = 1
    said = np.where(random.random(truth.shape) < 0.33, 1 - truth, truth)
    image = np.where(truth, 0.5, -0.5)[..., None] + random.normal(0, 0.02, (*truth.shape, 3))
    return truth, 1.5 * np.eye(2, dtype="float32")[said], image.astype("float32")


@pytest.mark.parametrize("stride", [1, 2])
def test_noise_goes_and_the_edge_stays(stride: int) -> None:
    truth, logits, image = two_colours()
    arguments = {"window": 7, "theta_beta": 20, "theta_alpha": 20, "w1": 4, "w2": 0, "test_iterations": 10}
    wrong = run(made(logits, image, **arguments, stride=stride), logits, image).argmax(-1) != truth
    assert (logits.argmax(-1) != truth).mean() > 0.25
    # At half resolution the cells of columns 12 and 13 hold both colours.
    assert wrong[..., 13].mean() <= stride - 1
    assert not np.delete(wrong, 13, axis=-1).any()


@pytest.mark.parametrize(("stride", "height", "width"), [(2, 9, 10), (3, 10, 11), (4, 9, 12)])
def test_coarse_cells_begin_at_the_first_pixel(stride: int, height: int, width: int) -> None:
    x = np.random.default_rng(0).normal(size=(1, height, width, 2)).astype("float32")
    cells = ops.convert_to_numpy(MeanFieldCRF(stride=stride)._averages(ops.convert_to_tensor(x)))
    assert cells.shape[1:3] == (-(-height // stride), -(-width // stride))
    for row, column in np.ndindex(*cells.shape[1:3]):
        cell = x[0, row * stride :, column * stride :][:stride, :stride]
        np.testing.assert_allclose(cells[0, row, column], cell.mean((0, 1)), atol=1e-6)


def test_coarse_crf_adds_the_enlarged_change_of_the_averages() -> None:
    logits, image = inputs(8, 12, count=1)
    layer = made(logits, image, stride=2)
    fine = made(logits, image, theta_alpha=2, theta_gamma=1)  # the same kernels, counted in cells
    coarse = [x.reshape(1, 4, 2, 6, 2, -1).mean((2, 4)) for x in (logits, image)]
    change = run(fine, *coarse) - coarse[0]
    enlarged = keras.layers.UpSampling2D(2, interpolation="bilinear")(change)
    np.testing.assert_allclose(run(layer, logits, image), logits + ops.convert_to_numpy(enlarged), atol=1e-5)
    odd = [x[:, :7, :11] for x in (logits, image)]
    assert run(layer, *odd).shape == (1, 7, 11, 4)


def test_gradients_in_training_are_those_that_keras_derives() -> None:
    tf = pytest.importorskip("tensorflow")
    if keras.config.backend() != "tensorflow":
        pytest.skip("compares two gradients of TensorFlow")
    logits, image = inputs()
    # As many steps in both modes: the one has its gradient written down, the other derived.
    layer = with_random_matrices(made(logits, image, iterations=3))
    target = np.random.default_rng(3).normal(size=logits.shape).astype("float32")
    found = []
    for training in (True, False):
        x = tf.constant(logits)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(layer([x, image], training=training) * target)
        found.append(tape.gradient(value, [x, *[weight.value for weight in layer.trainable_weights]]))
    for written, derived in zip(*found, strict=True):
        assert np.abs(derived).max() > 1e-2
        np.testing.assert_allclose(written, derived, rtol=1e-4, atol=1e-4)


def test_fit_lowers_the_loss_and_moves_all_three_matrices() -> None:
    truth, logits, image = two_colours()
    tensors = [keras.Input((None, None, 2)), keras.Input((None, None, 3))]
    layer = MeanFieldCRF(iterations=2, window=3, theta_beta=20, theta_alpha=20)
    model = keras.Model(tensors, layer(tensors))
    model.compile(
        keras.optimizers.SGD(0.5),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    before = layer.get_weights()
    losses = [model.train_on_batch([logits, image], truth) for _ in range(3)]
    assert losses[2] < losses[1] < losses[0]
    for old, new in zip(before, layer.get_weights(), strict=True):
        assert np.abs(new - old).max() > 1e-4


def test_config_rebuilds_it() -> None:
    layer = MeanFieldCRF(3, 4, 7, 2, 2, 50.0, 5.0, 2.0, 4.0, 3.0, (1.0, 2.0, 3.0), name="crf")
    again = MeanFieldCRF.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert (again.window, again.stride, tuple(again.std)) == (7, 2, (1.0, 2.0, 3.0))


def test_runs_on_three_runtimes(run_tflite: Any, to_onnx: Any, run_onnx: Any, parse_tensorrt: Any) -> None:
    def model(shape: tuple) -> keras.Model:
        x = keras.Input(shape, name="image")
        # One input: the logits are a fixed function of the image.
        scores = keras.layers.Conv2D(3, 1, kernel_initializer=keras.initializers.RandomNormal(seed=1))(x)
        crf = MeanFieldCRF(test_iterations=1, window=3, theta_beta=60, theta_alpha=4, dilation=2, stride=2)
        return keras.Model(x, crf([scores, x]))

    x = inputs(9, 14, count=1)[1]
    fixed = model((9, 14, 3))
    expected = ops.convert_to_numpy(fixed(x))
    np.testing.assert_allclose(run_tflite(fixed, x), expected, atol=2e-5)
    free = model((None, None, 3))
    proto = to_onnx(free, (None, None, None, 3))
    np.testing.assert_allclose(run_onnx(proto, x), ops.convert_to_numpy(free(x)), atol=2e-5)
    wider = inputs(12, 7, count=2)[1]
    np.testing.assert_allclose(run_onnx(proto, wider), ops.convert_to_numpy(free(wider)), atol=2e-5)
    assert parse_tensorrt(proto) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 6}, "`window` must be odd"),
        ({"iterations": 0}, "`iterations` must be a positive integer"),
        ({"theta_gamma": -1.0}, "`theta_gamma` must be a positive number"),
        ({"w1": float("nan")}, "`w1` must be a finite number"),
    ],
)
def test_refuses_values_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        MeanFieldCRF(**arguments)


def test_refuses_inputs_that_differ_in_size() -> None:
    with pytest.raises(UsageError, match="one height and width"):
        MeanFieldCRF()([np.zeros((1, 8, 8, 2), "float32"), np.zeros((1, 8, 9, 3), "float32")])
