"""Texture-layout features against brute force, their ranges, and soft stumps."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kseg.errors import UsageError
from kseg.layers import SoftStumps, TextureLayout
from kseg.layers.texture_layout import draw_rectangles


def texton_shares(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.full(7, 0.3), shape).astype("float32")


def brute_force(layer: TextureLayout, maps: np.ndarray) -> np.ndarray:
    """Mean of the clipped rectangle around each grid point, one pixel after the other."""
    batch, height, width, _ = maps.shape
    result = np.zeros((batch, height // layer.grid, width // layer.grid, layer.features))
    for feature, (rectangle, texton) in enumerate(layer.pairs):
        top, left, bottom, right = layer.rectangles[rectangle]
        for row, column in np.ndindex(*result.shape[1:3]):
            y, x = (at * layer.grid + (layer.grid - 1) // 2 for at in (row, column))
            rows = slice(max(y + top, 0), max(y + bottom, 0))
            columns = slice(max(x + left, 0), max(x + right, 0))
            part = maps[:, rows, columns, texton]
            if part[0].size:
                result[:, row, column, feature] = part.mean(axis=(1, 2))
    return result


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("grid", [1, 2, 3])
def test_equals_brute_force(grid: int, training: bool) -> None:
    layer = TextureLayout(24, 8, grid, smallest=3, largest=24)
    maps = texton_shares(2, 12, 18)
    found = keras.ops.convert_to_numpy(layer(maps, training=training))
    expected = brute_force(layer, maps)
    assert (expected == 0).any()  # some rectangles leave the image
    np.testing.assert_allclose(found, expected, atol=1e-6 if training else 1.5e-4)
    assert (found.min(), found.max()) >= (0, 0)
    assert found.max() <= 1


def test_all_of_one_texton_gives_exactly_one_even_where_float32_sums_are_rounded() -> None:
    layer = TextureLayout(8, 8, 16, smallest=3, largest=9, seed=2)
    maps = np.zeros((1, 1040, 1040, 1), "float32")
    maps[...] = 1
    found = keras.ops.convert_to_numpy(layer(maps, training=False))
    assert np.unique(found).tolist() == [1.0]


def test_features_of_a_hard_assignment_sum_to_one_over_all_textons() -> None:
    layer = TextureLayout(28, 4, 2, smallest=3, largest=12)
    maps = np.eye(7, dtype="float32")[np.random.default_rng(1).integers(0, 7, (1, 12, 16))]
    found = keras.ops.convert_to_numpy(layer(maps, training=True)).reshape(1, 6, 8, 4, 7).sum(axis=-1)
    inside = np.abs(found - 1) < 1e-5
    assert (inside | (found == 0)).all()
    assert inside.mean() > 0.5


def test_rectangles_stay_in_their_window_and_within_their_sides() -> None:
    drawn = draw_rectangles(500, 5, 200, 1, seed=0)
    sides = drawn[:, 2:] - drawn[:, :2]
    assert (sides.min(), sides.max()) >= (5, 190)
    assert sides.max() <= 200
    assert np.abs(drawn).max() <= 100
    assert len(np.unique(drawn, axis=0)) == 500
    small = draw_rectangles(50, 5, 200, 5, seed=0)
    assert np.abs(small).max() <= 20


def test_every_texton_is_used_and_pairs_are_distinct() -> None:
    layer = TextureLayout(30, 10)
    layer.build((None, None, None, 7))
    assert {texton for _, texton in layer.pairs} == {*range(7)}
    assert len(set(layer.pairs)) == len(layer.pairs) == 30


def test_gradients_reach_the_textons_in_training() -> None:
    tf = pytest.importorskip("tensorflow")
    if keras.config.backend() != "tensorflow":
        pytest.skip("takes TensorFlow's tape")
    layer = TextureLayout(14, 2, 2, smallest=2, largest=8)
    maps = tf.constant(texton_shares(1, 8, 8))
    with tf.GradientTape() as tape:
        tape.watch(maps)
        total = tf.reduce_sum(layer(maps, training=True))
    # The gradient of a sum of means is what each pixel weighs in them: positive, and in total their number.
    gradient = tape.gradient(total, maps).numpy()
    assert gradient.min() >= -1e-6
    covered = brute_force(layer, np.ones((1, 8, 8, 7), "float32")).sum()
    assert gradient.sum() == pytest.approx(covered, rel=1e-4)


def test_three_runtimes_and_half_precision(run_tflite, to_onnx, run_onnx, parse_tensorrt, tmp_path) -> None:
    inputs = keras.Input((40, 60, 7), name="image")
    model = keras.Model(inputs, TextureLayout(12, 4, 2, smallest=1, largest=40)(inputs))
    maps = texton_shares(1, 40, 60)
    expected = keras.ops.convert_to_numpy(model(maps, training=False))
    np.testing.assert_allclose(run_tflite(model, maps), expected, atol=1e-4)
    proto = to_onnx(model, (1, 40, 60, 7))
    np.testing.assert_allclose(run_onnx(proto, maps), expected, atol=1e-4)
    assert parse_tensorrt(proto) == []
    onnx = pytest.importorskip("onnx")
    from deploy.onnx.export import to_float16

    path = tmp_path / "half.onnx"
    path.write_bytes(proto)
    to_float16(path)
    half = onnx.load(str(path))
    assert any(node.op_type == "Cast" for node in half.graph.node)
    # Sums of up to 2,400 pixels would be off by one in half precision, 1.0 of a one-pixel rectangle.
    np.testing.assert_allclose(run_onnx(half.SerializeToString(), maps), expected, atol=1e-3)


def test_unknown_sizes_on_onnx(to_onnx, run_onnx) -> None:
    inputs = keras.Input((None, None, 7), name="image")
    model = keras.Model(inputs, TextureLayout(6, 2, 2, smallest=1, largest=20)(inputs))
    proto = to_onnx(model, (None, None, None, 7))
    for size in ((12, 16), (8, 22)):
        maps = texton_shares(2, *size)
        expected = keras.ops.convert_to_numpy(model(maps, training=False))
        np.testing.assert_allclose(run_onnx(proto, maps), expected, atol=1e-4)


def test_stumps_are_soft_steps_at_their_thresholds() -> None:
    layer = SoftStumps(temperature=0.01)
    x = np.linspace(-3, 3, 40, dtype="float32").reshape(1, 4, 5, 2)
    layer.build(x.shape)
    layer.threshold.assign([0.5, -1.0])
    found = keras.ops.convert_to_numpy(layer(x))
    far = np.abs(x - [0.5, -1.0]) > 0.1
    np.testing.assert_allclose(found[far], (x > [0.5, -1.0])[far], atol=1e-3)
    at = np.broadcast_to(np.array([0.5, -1.0], "float32"), (1, 1, 1, 2))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(at)), 0.5, atol=1e-6)
    assert SoftStumps.from_config(layer.get_config()).get_config() == layer.get_config()


def test_errors() -> None:
    with pytest.raises(UsageError, match="`grid` must be a positive integer"):
        TextureLayout(grid=0)
    with pytest.raises(
        UsageError, match=r"`features` must be at most 1,000,000\. Received: features=1000000000"
    ):
        TextureLayout(10**9, 10**9)  # would draw 32 GB of rectangles
    with pytest.raises(UsageError, match=r"width that is a multiple of its grid 5.*PadToStride"):
        TextureLayout(8, 4, 5)(keras.Input((20, 21, 7)))
    with pytest.raises(UsageError, match="`temperature` must be a positive number"):
        SoftStumps(temperature=0)
