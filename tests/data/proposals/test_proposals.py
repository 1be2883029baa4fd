"""Object proposals: found where objects are, the same at every call, in the pixels of the image."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from kseg.boxes import iou
from kseg.data.pictures.images import read_image
from kseg.data.proposals import METHODS, Proposer, edge_boxes, propose, proposer, searching
from kseg.errors import DataError, MissingExtraError, UsageError

OBJECT = (30, 50, 80, 120)


def scene(size: tuple[int, int] = (120, 160), box: tuple[int, int, int, int] = OBJECT) -> NDArray[np.uint8]:
    """A bright rectangle on a dark ground with some noise."""
    image = np.random.default_rng(0).integers(20, 40, (*size, 3), dtype=np.uint8)
    image[box[0] : box[2], box[1] : box[3]] += np.uint8(150)
    return image


def clouds(size: tuple[int, int] = (80, 100)) -> NDArray[np.uint8]:
    """Blurred noise: many regions of all sizes."""
    noise = np.random.default_rng(1).integers(0, 255, (*size, 3), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 3))


@pytest.mark.parametrize("method", METHODS)
def test_an_object_is_among_the_boxes_and_boxes_lie_inside(method: str) -> None:
    boxes = propose(scene(), method, count=200)
    assert boxes.dtype == np.int32
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= (120, 160)).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert iou(boxes, np.array([OBJECT])).max() > 0.75


def test_edge_boxes_put_the_object_first_and_center_on_it() -> None:
    best = propose(scene(), "edge-boxes", count=1)[0]
    assert iou(best[None], np.array([OBJECT]))[0, 0] > 0.6
    assert np.abs((best[:2] + best[2:]) / 2 - (55, 85)).max() <= 1.5


@pytest.mark.parametrize("method", METHODS)
def test_the_same_image_gives_the_same_boxes_in_the_same_order(method: str) -> None:
    image = clouds()
    first = propose(image, method, count=None)
    np.random.default_rng().random(5)
    assert len(first) > 10
    assert np.array_equal(first, propose(image, method, count=None))
    assert np.array_equal(first[:7], propose(image, method, count=7))


def test_the_seed_changes_the_order_of_selective_search_only() -> None:
    image = cv2.GaussianBlur(
        np.random.default_rng(1).integers(0, 255, (80, 100, 3), dtype=np.uint8), (0, 0), 3
    )
    one, other = (propose(image, count=None, seed=seed) for seed in (0, 1))
    assert not np.array_equal(one, other)
    assert np.array_equal(np.unique(one, axis=0), np.unique(other, axis=0))


def test_large_regions_come_early_in_selective_search() -> None:
    image = cv2.GaussianBlur(
        np.random.default_rng(1).integers(0, 255, (120, 160, 3), dtype=np.uint8), (0, 0), 3
    )
    boxes = propose(image, count=None)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    half = len(areas) // 2
    assert np.median(areas[:half]) > np.median(areas[half:])


@pytest.mark.parametrize("method", METHODS)
def test_a_large_image_is_searched_in_a_smaller_copy(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []

    name = method.replace("-", "_")
    search = getattr(searching, name)
    monkeypatch.setattr(
        searching, name, lambda image, *rest: seen.append(image.shape) or search(image, *rest)
    )
    large = cv2.resize(scene(), (640, 480), interpolation=cv2.INTER_NEAREST)
    boxes = propose(large, method, count=200, max_side=160)
    assert seen == [(120, 160, 3)]
    assert iou(boxes, 4 * np.array([OBJECT])).max() > 0.75
    assert (boxes[:, 2:] <= (480, 640)).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (5, 90)])
@pytest.mark.parametrize("method", METHODS)
def test_tiny_images_have_boxes_inside_or_none(method: str, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    boxes = propose(image, method)
    assert boxes.shape[1:] == (4,)
    assert (boxes[:, 2:] <= size).all()


def test_a_flat_image_has_no_edge_boxes_and_one_region() -> None:
    flat = np.full((40, 60, 3), 77, np.uint8)
    assert propose(flat, "edge-boxes").shape == (0, 4)
    assert propose(flat, "selective-search").tolist() == [[0, 0, 40, 60]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"method": "edge-box"}, ["`method`", "edge-box", "Did you mean 'edge-boxes'?"]),
        ({"count": 0}, ["`count`", "0"]),
        ({"max_side": 8}, ["`max_side`", "8"]),
        ({"seed": -1}, ["`seed`", "-1"]),
        ({"edge_model": "forest.yml"}, ["`edge_model`", "edge-boxes"]),
        ({"method": "edge-boxes", "quality": True}, ["`quality`", "selective-search"]),
        ({"method": "edge-boxes", "edge_model": "none.yml"}, ["no file 'none.yml'"]),
        ({"method": "regions", "boundaries": "het"}, ["`boundaries`", "Did you mean 'hed'?"]),
        ({"method": "selective-search", "boundaries": "color"}, ["`boundaries`", "selective-search"]),
        ({"method": "edge-boxes", "boundaries": "color", "edge_model": __file__}, ["without edge_model"]),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        propose(scene(), **arguments)
    assert all(word in str(caught.value) for word in words), caught.value


def test_floats_are_refused() -> None:
    with pytest.raises(UsageError, match="uint8 RGB"):
        propose(scene().astype(np.float32))


def test_plain_opencv_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "ximgproc")
    with pytest.raises(MissingExtraError, match="opencv-contrib-python-headless"):
        propose(scene())


FOREST = """%YAML:1.0
---
options: {stride: 2, shrinkNumber: 2, patchSize: 32, patchInnerSize: 16, numberOfGradientOrientations: 4,
  selfsimilarityGridSize: 5, numberOfTrees: 1, numberOfTreesToEvaluate: 1}
childs: [[0, 0]]
featureIds: [[0, 0]]
thresholds: [[0.5, 0.5]]
edgeBoundaries: [[0]]
edgeBins: [[0]]
"""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("%YAML:1.0\n---\nnothing: 1\n", "it lacks options, childs"),
        ("%YAML:1.0\n---\noptions: {stride: 2}\n", "it lacks childs"),
        (FOREST.replace("patchSize: 32", "patchSize: 0"), "options patchSize are no positive"),
        (FOREST.replace("stride: 2, ", ""), "options stride are no positive"),
        (FOREST.replace("numberOfTrees: 1", "numberOfTrees: 3"), "not of 3 trees"),
        (FOREST.replace("featureIds: [[0, 0]]", "featureIds: [[0]]"), "different lengths"),
        (FOREST.replace("childs: [[0, 0]]", "childs: 5"), "not of 1 trees"),
        ("\x00\x01\x02", "cannot read it"),
        ("", "cannot read it"),
    ],
    ids=str,
)
def test_a_file_that_is_no_forest_is_named(content: str, reason: str, tmp_path: Path) -> None:
    """OpenCV itself would end the process with some of these."""
    wrong = tmp_path / "forest.yml"
    wrong.write_text(content)
    with pytest.raises(DataError, match=rf"forest\.yml' is no structured-forest edge model: .*{reason}"):
        propose(scene(), "edge-boxes", edge_model=str(wrong))


def test_a_forest_sees_floats_from_0_to_1_and_its_thinned_edges_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Forest:
        """Answers with the gradient edges, so that boxes must be those of the gradients."""

        def detectEdges(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
            assert image.dtype == np.float32
            assert image.max() <= 1
            self.edges, self.normals = edge_boxes.gradient_edges((image * 255).round().astype(np.uint8))
            return np.ones_like(self.edges)

        def computeOrientation(self, edges: NDArray[np.float32]) -> NDArray[np.float32]:
            return self.normals

        def edgesNms(self, edges: NDArray[np.float32], normals: NDArray[np.float32]) -> NDArray[np.float32]:
            assert normals is self.normals
            return self.edges

    file = tmp_path / "model.yml.gz"
    file.write_bytes(b"stands for a forest")
    monkeypatch.setattr(edge_boxes, "_forest", lambda path: Forest())
    assert np.array_equal(
        propose(scene(), "edge-boxes", edge_model=str(file)), propose(scene(), "edge-boxes")
    )


def test_gradient_edges_are_thin_and_know_their_normal() -> None:
    edges, normals = edge_boxes.gradient_edges(scene())
    row, column = 55, slice(40, 60)
    strong = np.flatnonzero(edges[row, column] > 0.5) + 40
    assert len(strong) in (1, 2)
    assert abs(strong.mean() - 49.5) <= 1
    # The left side of the rectangle stands upright: its normal lies flat.
    flat = normals[row, strong[0]]
    assert min(flat, np.pi - flat) < 0.2


def test_a_proposer_pickles_and_a_callable_is_taken_as_it_is() -> None:
    found = Proposer(method="edge-boxes", max_side=64)
    assert np.array_equal(pickle.loads(pickle.dumps(found))(scene()), found(scene()))
    own = lambda image: np.array([[0, 0, 2, 2]])  # noqa: E731
    assert proposer(own) is own
    with pytest.raises(UsageError, match="quality"):
        proposer(own, quality=True)


def test_a_street_gives_boxes_by_every_method(shared_data: Path) -> None:
    image = read_image(sorted((shared_data / "camvid" / "images" / "val").glob("*.jpg"))[0])
    for method in METHODS:
        boxes = propose(image, method, count=50, max_side=240)
        assert boxes.shape == (50, 4)
        assert len(np.unique(boxes, axis=0)) == 50
