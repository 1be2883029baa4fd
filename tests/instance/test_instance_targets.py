"""What a sample becomes: rows of objects, crowds apart, masks on grids over their boxes."""

from __future__ import annotations

import numpy as np
from oracle import blobs

from kseg.instance.targets import InstanceTarget
from kseg.layers.detection import TRUE_SIDE


def test_rows_of_objects_and_crowds() -> None:
    sample = blobs("a", (64, 64), [(20, 24, 8), (45, 12, 6), (40, 50, 10)], crowd=(1,))
    target = InstanceTarget(5)(sample)
    assert {name: value.shape for name, value in target.items()} == {
        "true_boxes": (5, 4), "true_classes": (5,), "true_objects": (5,), "true_crowds": (5,),
        "true_masks": (5, TRUE_SIDE, TRUE_SIDE),
    }  # fmt: skip
    # The largest first.
    np.testing.assert_array_equal(
        target["true_boxes"][:3], [[30, 40, 51, 61], [12, 16, 29, 33], [39, 6, 52, 19]]
    )
    assert target["true_objects"].tolist() == [1, 1, 0, 0, 0]
    assert target["true_crowds"].tolist() == [0, 0, 1, 0, 0]
    assert target["true_classes"].tolist() == [1, 1, 1, 0, 0]
    # Discs of radius 10 and 8 fill so much of their boxes, in pixels.
    for row, share in enumerate((317 / 21**2, 197 / 17**2)):
        assert abs(target["true_masks"][row].mean() - share) < 0.03
    assert not target["true_masks"][2:].any()


def test_more_objects_than_rows_and_none() -> None:
    sample = blobs("a", (64, 64), [(20, 24, 8), (45, 12, 6), (40, 50, 10)])
    assert InstanceTarget(1)(sample)["true_boxes"].tolist() == [[30, 40, 51, 61]]
    nothing = InstanceTarget(2)(blobs("b", (64, 64), []))
    assert not any(value.any() for value in nothing.values())


def test_an_object_that_a_crop_pushed_out_has_no_row() -> None:
    sample = blobs("a", (64, 64), [(20, 24, 8), (45, 12, 6)])
    layers = sample.instances.layers.copy()
    layers[layers == 1] = 0
    sample.instances = sample.instances.replace(layers)
    target = InstanceTarget(3)(sample)
    assert target["true_objects"].tolist() == [1, 0, 0]
    assert target["true_boxes"][0].tolist() == [39, 6, 52, 19]


def test_large_and_tiny_masks() -> None:
    for radius in (1, 2, 70):
        sample = blobs("a", (200, 200), [(100, 100, radius)])
        grid = InstanceTarget(1)(sample)["true_masks"][0]
        assert grid.dtype == np.uint8
        assert grid[TRUE_SIDE // 2, TRUE_SIDE // 2] == 1
        assert 0.4 < grid.mean() < 1
