"""Anchors, box coding, matching and RoIAlign against torchvision; recorded by tests/references/record.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from keras import ops

from kseg.layers import detection

Array = np.ndarray
REFERENCES = Path(__file__).resolve().parents[2] / "references" / "torch.npz"
# Detectron's coder divides by them; torchvision's multiplies by 10, 10, 5, 5.
DEVIATIONS = (0.1, 0.1, 0.2, 0.2)


@pytest.fixture(scope="module")
def recorded() -> Iterator[dict[str, Array]]:
    with np.load(REFERENCES) as file:
        yield {name.split("/")[1]: file[name] for name in file.files if name.startswith("detection/")}


def turned(values: Array) -> Array:
    """(x, y, x, y) as (y, x, y, x), and moves and growths too."""
    return values[..., [1, 0, 3, 2]]


def test_roi_align(recorded: dict[str, Array]) -> None:
    boxes = turned(recorded["boxes"])
    by_image = np.stack([boxes[0::2], boxes[1::2]])
    layer = detection.RoIAlign((7, 5), stride=8)
    found = ops.convert_to_numpy(layer(recorded["features"], by_image))
    expected = np.stack([recorded["aligned"][0::2], recorded["aligned"][1::2]])
    assert layer.compute_output_shape((2, 17, 23, 3), (2, 12, 4)) == found.shape
    np.testing.assert_allclose(found, expected, atol=5e-6)
    assert np.abs(expected).max() > 1


def test_anchors_of_pyramids(recorded: dict[str, Array]) -> None:
    found = detection.reference_anchors((2, 4), (0.5, 1, 2), style="fpn")
    np.testing.assert_array_equal(found, turned(recorded["anchors"]))


def test_coding(recorded: dict[str, Array]) -> None:
    boxes = turned(recorded["boxes"])
    coded = ops.convert_to_numpy(detection.encode(ops.convert_to_tensor(boxes[:12]), boxes[12:], DEVIATIONS))
    np.testing.assert_allclose(coded, turned(recorded["coded"]), atol=1e-4, rtol=1e-5)
    decoded = ops.convert_to_numpy(detection.decode(ops.convert_to_tensor(3 * coded), boxes[12:], DEVIATIONS))
    np.testing.assert_allclose(decoded, turned(recorded["decoded"]), rtol=1e-4, atol=1e-2)


def test_overlaps_and_matches(recorded: dict[str, Array]) -> None:
    """torchvision gives the matched box, -1 where it is background and -2 where it is neither."""
    boxes = turned(recorded["boxes"])[None]
    found = detection.overlaps(ops.convert_to_tensor(boxes[0, :6]), boxes[0, 6:])
    np.testing.assert_allclose(ops.convert_to_numpy(found), recorded["overlap"], atol=1e-6)
    labels, index, _ = detection.match(
        ops.convert_to_tensor(boxes[:, 6:]), ops.convert_to_tensor(boxes[:, :6]), np.ones((1, 6), np.float32),
        high=0.5, low=0.2, best_of_each=True,
    )  # fmt: skip
    labels, index = (ops.convert_to_numpy(item)[0] for item in (labels, index))
    shown = np.where(labels == 1, index, np.where(labels == 0, -1, -2))
    np.testing.assert_array_equal(shown, recorded["matched"])
    assert set(np.unique(labels)) == {-1, 0, 1}
