"""What a network says of objects: sorted, checked, boxes as masks where it has none."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from kseg.data.detections import Detections
from kseg.data.run_lengths import Masks
from kseg.errors import UsageError

SIZE = (4, 6)


def masks() -> list[np.ndarray]:
    found = np.zeros((3, *SIZE), bool)
    found[0, :2, :2] = found[1, 2:, 3:] = found[2, 1, 5] = True
    return list(found)


def test_the_surest_comes_first_and_boxes_are_those_of_masks() -> None:
    found = Detections.from_masks(masks(), [0.5, 0.9, 0.5], [1, 2, 3], SIZE)
    assert found.scores.tolist() == pytest.approx([0.9, 0.5, 0.5])
    assert found.classes.tolist() == [2, 1, 3]
    assert found.boxes.tolist() == [[2, 3, 4, 6], [0, 0, 2, 2], [1, 5, 2, 6]]
    np.testing.assert_array_equal(found.mask(1), masks()[0])
    assert (len(found), found.size) == (3, SIZE)
    assert found[found.scores > 0.6].classes.tolist() == [2]


def test_boxes_of_a_network_without_masks_are_filled() -> None:
    boxes = [[0.4, 0.6, 2.4, 2.6], [-5, 3, 90, 1e9], [1, 1, 1, 1]]
    found = Detections.from_boxes(boxes, [3, 2, 1], [1, 1, 1], SIZE)
    wanted = np.zeros((3, *SIZE), bool)
    wanted[0, 0:2, 1:3] = wanted[1, :, 3:] = True
    np.testing.assert_array_equal([found.mask(index) for index in range(3)], wanted)
    np.testing.assert_allclose(found.boxes, np.float32(boxes))


def test_nothing_found() -> None:
    found = Detections.from_masks([], [], [], SIZE)
    assert (len(found), found.boxes.shape, found.size) == (0, (0, 4), SIZE)
    assert len(Detections.from_boxes([], [], [], SIZE)) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": [1, 2]}, "one of each"),
        ({"scores": [1, np.nan, 0]}, "finite and falling"),
        ({"classes": [1, 0, 2]}, "1 or more"),
        ({"boxes": [[2, 0, 1, 1]] * 3}, "y0 <= y1"),
        ({"boxes": [[0, 0, np.inf, 1]] * 3}, "must be finite"),
    ],
)
def test_wrong_numbers_are_refused(change: dict, message: str) -> None:
    arguments = {"scores": [3, 2, 1], "classes": [1, 1, 1], **change}
    with pytest.raises(UsageError, match=message):
        Detections.of(Masks.from_masks(masks(), SIZE), **arguments)
    if "boxes" in change:
        with pytest.raises(UsageError, match=message):
            Detections.from_boxes(change["boxes"], [3, 2, 1], [1, 1, 1], SIZE)


def test_arrays_of_another_kind_are_refused() -> None:
    whole = Detections.from_masks(masks(), [3, 2, 1], [1, 1, 1], SIZE)
    with pytest.raises(UsageError, match=r"`scores` must be float32 \(3,\).*float64"):
        Detections(whole.boxes, whole.scores.astype(np.float64), whole.classes, whole.masks)
    with pytest.raises(UsageError, match="falling"):
        Detections(whole.boxes, whole.scores[::-1], whole.classes, whole.masks)


def test_the_light_install_makes_and_reads_them() -> None:
    """Where a finished file is run, there is no pycocotools."""
    lines = (
        "import sys",
        "sys.modules['pycocotools'] = None",
        "import numpy as np",
        "from kseg.data import Detections",
        "found = Detections.from_masks([np.eye(3, dtype=bool)], [1], [1], (3, 3))",
        "print(found.mask(0).sum(), found.masks.crop(0)[1].shape, 'keras' in sys.modules)",
    )
    run = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert run.stdout == "3 (3, 3) False\n"
