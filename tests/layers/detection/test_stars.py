"""Stars: rays of known shapes, shapes of known rays, and cells that learn from every object."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from kseg.layers import BilinearUpsampling
from kseg.layers.detection import TRUE_SIDE, RayLoss, StarDetections, StarMasks, StarTargets
from kseg.layers.detection.star_losses import covered, depths, painted, ray_distances
from kseg.layers.detection.stars import directions, gauge

Array = np.ndarray
RAYS = 32
ANGLES = 2 * np.pi * np.arange(RAYS) / RAYS
SIN, COS = np.sin(ANGLES), np.cos(ANGLES)


def ellipse(y: Array, x: Array) -> Array:
    return y**2 + x**2 <= 1


def rectangle(y: Array, x: Array) -> Array:
    return (abs(y) <= 1) & (abs(x) <= 1)


def grid_of(shape: Any) -> Array:
    """A shape that fills -1..1 on the grid over its box."""
    share = 2 * (np.arange(TRUE_SIDE) + 0.5) / TRUE_SIDE - 1
    return shape(share[:, None], share[None]).astype(np.uint8)


def numbers(*values: Any) -> tuple[Array, ...]:
    return tuple(ops.convert_to_numpy(value) for value in values)


@pytest.mark.parametrize(
    ("shape", "half", "expected"),
    [
        (ellipse, (12, 12), np.full(RAYS, 12.0)),
        (ellipse, (9, 21), 1 / np.sqrt((SIN / 9) ** 2 + (COS / 21) ** 2)),
        (rectangle, (8, 15), np.minimum(8 / np.maximum(abs(SIN), 1e-9), 15 / np.maximum(abs(COS), 1e-9))),
    ],
    ids=["circle", "ellipse", "rectangle"],
)
def test_rays_of_known_shapes(shape: Any, half: tuple[float, float], expected: Array) -> None:
    y, x = half
    boxes = np.array([[[0, 0, 0, 0], [30 - y, 40 - x, 30 + y, 40 + x]]], np.float32)
    masks = np.stack([np.zeros((TRUE_SIDE, TRUE_SIDE), np.uint8), grid_of(shape)])[None]
    (found,) = numbers(
        ray_distances(np.array([[[30.0, 40.0]]], np.float32), boxes[:, 1:], np.array([[1]]), masks, RAYS)
    )
    assert found.shape == (1, 1, RAYS)
    assert np.abs(found[0, 0] - expected).max() < 0.7


def test_a_ray_ends_where_the_object_ends_first() -> None:
    """A frame seen from its left bar: to the right the hole begins, though the object goes on behind it."""
    frame = np.ones((TRUE_SIDE, TRUE_SIDE), np.uint8)
    frame[14:42, 14:42] = 0
    boxes = np.array([[[0, 0, 56, 56]]], np.float32)
    centre = np.array([[[28.0, 7.0]]], np.float32)
    (found,) = numbers(ray_distances(centre, boxes, np.array([[0]]), frame[None, None], 4))
    np.testing.assert_allclose(found[0, 0], [7, 28, 7, 28], atol=0.7)


def test_the_gauge_of_a_square_is_exact() -> None:
    """With a ray to each corner the star is the square itself."""
    far = np.where(np.arange(8) % 2, np.sqrt(2), 1).astype(np.float32) * 10
    y, x = np.mgrid[-20:21, -20:21].astype(np.float32)
    (found,) = numbers(gauge(y.reshape(1, -1), x.reshape(1, -1), far[None]))
    np.testing.assert_allclose(found.reshape(41, 41), np.maximum(abs(y), abs(x)) / 10, atol=1e-5)


@pytest.mark.parametrize("radius", [4.0, 15.0])
def test_the_star_of_a_circle_is_one(radius: float) -> None:
    boxes = np.array([[[40 - radius, 50 - radius, 40 + radius, 50 + radius], [0, 0, 0, 0]]], np.float32)
    centres = np.array([[[40, 50], [0, 0]]], np.float32)
    far = np.stack([np.full(RAYS, radius), np.ones(RAYS)])[None].astype(np.float32)
    (mask,) = numbers(StarMasks(28)(boxes, centres, far))
    assert np.isfinite(mask).all()
    assert 0 <= mask.min() <= mask.max() <= 1
    found = mask[0, 0] >= 0.5
    share = 2 * (np.arange(28) + 0.5) / 28 - 1
    disc = ellipse(share[:, None], share[None])
    assert (found & disc).sum() / (found | disc).sum() > 0.95


def test_owners_and_depths() -> None:
    """Two rectangles that touch, and a small one over the first: each cell has one owner."""
    boxes = np.array([[[0, 0, 20, 20], [0, 20, 20, 40], [8, 8, 12, 12], [0, 0, 0, 0]]], np.float32)
    masks = np.ones((1, 4, TRUE_SIDE, TRUE_SIDE), np.uint8)
    real = np.array([[1, 1, 1, 0]], np.float32)
    owner, share = numbers(*painted(boxes, masks, real, 16, 24, 2))
    expected = np.zeros((16, 24), int)
    expected[:10, :10], expected[:10, 10:20], expected[4:6, 4:6] = 1, 2, 3
    np.testing.assert_array_equal(owner[0], expected)
    np.testing.assert_allclose(share[0], expected > 0, atol=1e-5)
    (depth,) = numbers(depths(expected[None].astype(np.int32)))
    # Cut by the map above and to the left, so it is deepest there; the other object is a border.
    assert depth[0, 0, 8:12].tolist() == [2, 1, 1, 2]
    assert depth[0, 9, 14] == 1
    assert depth[0, 0, 15] == 5
    assert not depth[0, 10:].any()


def test_many_rows_are_painted_in_turns() -> None:
    low = np.stack(np.mgrid[:10, :10], -1).reshape(-1, 2) * 4.0
    boxes = np.concatenate([low, low + 4], 1)[None].astype(np.float32)
    masks = np.ones((1, 100, TRUE_SIDE, TRUE_SIDE), np.uint8)
    owner, _ = numbers(*painted(boxes, masks, np.ones((1, 100), np.float32), 20, 20, 2))
    np.testing.assert_array_equal(owner[0, ::2, ::2].ravel(), np.arange(1, 101))


def test_a_cell_that_a_border_cuts_is_in_by_its_share() -> None:
    """Edges at odd pixels of cells of two pixels: half of the cell, a quarter in the corner."""
    boxes = np.array([[[3, 5, 9, 12]]], np.float32)
    masks = np.ones((1, 1, TRUE_SIDE, TRUE_SIDE), np.uint8)
    owner, share = numbers(*painted(boxes, masks, np.ones((1, 1), np.float32), 8, 8, 2))
    rows, columns = np.array([0, 0.5, 1, 1, 0.5, 0, 0, 0]), np.array([0, 0, 0.5, 1, 1, 1, 0, 0])
    np.testing.assert_allclose(share[0], rows[:, None] * columns, atol=1e-5)
    np.testing.assert_array_equal(owner[0], share[0] > 0.4)


def test_crowds_cover_cells() -> None:
    boxes = np.array([[[0, 0, 8, 6], [4, 4, 12, 12]]], np.float32)
    (found,) = numbers(covered(boxes, np.array([[1, 0]], np.float32), 8, 8, 2))
    assert found[0].sum() == found[0, :4, :3].sum() == 12


def test_each_object_is_drawn_from_whatever_its_size() -> None:
    boxes = np.array([[[0, 0, 80, 80], [90, 90, 98, 98]], [[0, 0, 0, 0]] * 2], np.float32)
    masks = np.ones((2, 2, TRUE_SIDE, TRUE_SIDE), np.uint8)
    real = np.array([[1, 1], [0, 0]], np.float32)
    nothing = np.zeros_like(real)
    layer = StarTargets(8, 2, count=16)
    share, inside, counts, index, rows, weights, distances = numbers(
        *layer(np.zeros((2, 64, 64, 1), np.float32), boxes, masks, real, nothing)
    )
    assert share.max(axis=(1, 2)).tolist() == [1, 0]
    assert share[0, 45:49, 45:49].max() == 1  # the small one is as deep in its middle
    assert inside.sum(axis=(1, 2)).tolist() == [40 * 40 + 16, 0]
    assert counts.all()
    assert (weights[0] > 0).all()
    assert not weights[1].any()
    np.testing.assert_allclose(weights[0], share[0].ravel()[index[0]])
    assert 2 <= (rows[0] == 1).sum() <= 12
    assert np.isfinite(distances).all()
    assert (distances[0][rows[0] == 1] <= 8 * 1.42).all()


def test_the_loss_of_rays() -> None:
    wanted = np.full((2, 3, 8), 10, np.float32)
    index, weights = np.zeros((2, 3), np.int32), np.array([[1, 1, 0], [0, 0, 0]], np.float32)
    for far, expected in ((10, 0), (20, np.log(2)), (5, np.log(2))):
        (found,) = numbers(RayLoss()(np.full((2, 4, 4, 8), far, np.float32), index, weights, wanted))
        np.testing.assert_allclose(found, [expected, 0], atol=1e-6)


def field(circles: list[tuple[float, float, float, float]], side: int = 32) -> tuple[Array, Array]:
    """What a perfect network says of circles (y, x, radius, score) at stride 2: probabilities and rays."""
    middle = (np.arange(side) + 0.5) * 2
    objects, far = np.zeros((1, side, side, 1), np.float32), np.ones((1, side, side, RAYS), np.float32)
    for y, x, radius, score in circles:
        away = np.hypot(middle[:, None] - y, middle[None] - x)
        own = away < radius
        objects[0, own, 0] = (score * (1 - away / radius))[own]
        dy, dx = (middle[:, None] - y + 0 * away)[own], (middle[None] - x + 0 * away)[own]
        along = dy[:, None] * directions(RAYS)[:, 0] + dx[:, None] * directions(RAYS)[:, 1]
        far[0, own] = -along + np.sqrt(along**2 + radius**2 - (dy**2 + dx**2)[:, None])
    return objects, far


@pytest.mark.parametrize("keep", [2, 5])
def test_touching_objects_both_survive(keep: int) -> None:
    objects, far = field([(20.2, 17.1, 9, 0.9), (20.2, 35.1, 9, 0.8), (45, 50, 4, 0.7)])
    image = np.zeros((1, 64, 64, 3), np.float32)
    boxes, scores, classes, centres, distances = numbers(*StarDetections(keep, 2)(image, objects, far))
    circles = [[11.2, 8.1, 29.2, 26.1], [11.2, 26.1, 29.2, 44.1], [41, 46, 49, 54]][:keep]
    np.testing.assert_allclose(boxes[0, :3], circles, atol=0.3)
    assert classes[0].tolist() == [1, 1, 1, 0, 0][:keep]
    assert (np.diff(scores[0]) <= 0).all()
    assert not scores[0, 3:].any()
    assert not boxes[0, 3:].any()
    assert (distances > 0).all()
    assert np.abs(centres[0, 0] - (20.2, 17.1)).max() <= 1


def test_classes_weigh_the_scores_and_suppress_their_own_only() -> None:
    objects, far = field([(20, 20, 10, 1.0)])
    shares = np.zeros((1, 32, 32, 3), np.float32)
    shares[...] = (0.1, 0.3, 0.6)
    image = np.zeros((1, 64, 64, 3), np.float32)
    _, scores, classes, _, _ = numbers(*StarDetections(4, 2)(image, objects, far, shares))
    assert classes[0].tolist() == [3, 0, 0, 0]
    np.testing.assert_allclose(scores[0, 0], 0.6 * objects.max(), rtol=1e-5)


@pytest.mark.parametrize("side", [16, None], ids=["known", "unknown"])
def test_they_convert(
    side: int | None, run_tflite: Any, to_onnx: Any, run_onnx: Any, parse_tensorrt: Any
) -> None:
    maps = keras.Input((side, side, 1 + RAYS), name="image")
    boxes, scores, _, centres, far = StarDetections(6, 2)(
        BilinearUpsampling(2)(maps), maps[..., :1], maps[..., 1:]
    )
    masks = ops.reshape(StarMasks(7)(boxes, centres, far), (-1, 6, 49))
    model = keras.Model(maps, ops.concatenate([boxes, scores[..., None], masks], axis=-1))
    objects, rays = field([(9, 10, 6, 0.9), (9, 22, 6, 0.8), (25, 24, 4, 0.7)], 16)
    x = np.concatenate([objects, rays], -1)
    expected = ops.convert_to_numpy(model(x))
    assert (expected[0, :, 4] > 0).sum() >= 3
    proto = to_onnx(model, (1, 16, 16, 1 + RAYS) if side else (None, None, None, 1 + RAYS))
    np.testing.assert_allclose(run_onnx(proto, x), expected, atol=2e-5)
    if side:
        np.testing.assert_allclose(run_tflite(model, x), expected, atol=2e-5)
        assert parse_tensorrt(proto) == []
