"""R-CNN's box regression: a known shift is found again, boxes move by it, a run learns and applies it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import regions

import kseg
from kseg import data
from kseg.boxes import iou, moved, moves
from kseg.cli.main import main
from kseg.errors import UsageError
from kseg.instance.sds.box_regression import fit_moves
from kseg.instance.sds.config import SDSConfig
from kseg.instance.sds.predictor import RegionPredictor
from kseg.layers.detection.boxes import decode, encode

pytest.importorskip("sklearn", reason="kseg[sds] is not installed")


def boxes(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    low = random.uniform(0, 40, (count, 2))
    return np.concatenate([low, low + random.uniform(5, 30, (count, 2))], axis=1)


def test_moves_are_those_of_networks_and_lead_back() -> None:
    one, other = boxes(20), boxes(20, 1)
    found = moves(one, other)
    np.testing.assert_allclose(found, np.asarray(encode(other.astype("f"), one.astype("f"))), atol=1e-5)
    np.testing.assert_allclose(moved(one, found), other)
    far = np.array([[0, 0, 9.0, 9.0]])
    np.testing.assert_allclose(
        moved(one[:1], far), np.asarray(decode(far.astype("f"), one[:1].astype("f"))), rtol=1e-4
    )


def test_a_known_shift_is_found_again_for_each_class() -> None:
    """Class 1 lies a fifth of its height lower; of class 2 a feature tells the growth; 3 has no example."""
    random = np.random.default_rng(0)
    features = random.normal(size=(4000, 6)).astype(np.float32)
    kinds = np.repeat([1, 2], 2000)
    targets = np.zeros((4000, 4))
    targets[kinds == 1, 0] = 0.2
    targets[kinds == 2, 2] = 0.3 * features[kinds == 2, 1]
    weights, constants = fit_moves(features, targets, kinds, 4)
    found = np.einsum("nd,dkc->nkc", features, weights) + constants
    np.testing.assert_allclose(found[:, 0], np.tile([0.2, 0, 0, 0], (4000, 1)), atol=1e-3)
    np.testing.assert_allclose(found[kinds == 2, 1], targets[kinds == 2], atol=0.02)
    assert not found[:, 2].any()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    folder = regions.folder(tmp_path_factory.mktemp("shapes"))
    out = tmp_path_factory.mktemp("rcnn") / "run"
    words = (
        "--variant box --box-regression --boundaries color --size 32 --width 0.0625 --epochs 2 --regions 60 "
        "--no-refiner"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KSEG_CACHE", str(tmp_path_factory.mktemp("cache")))
        assert main(["train-sds", "--data", str(folder), "--out", str(out), *words.split()]) == 0
        yield folder, out


def test_a_run_moves_boxes_and_leaves_masks(run: tuple[Path, Path]) -> None:
    folder, out = run
    model = kseg.load(out / "model.keras")
    assert model.output["moves"].shape == (None, 2, 4)
    predictor = RegionPredictor(model)
    nearer = []
    for sample in data.open(folder).samples("train"):
        given = dict(predictor.outputs(sample.image))
        after = predictor.decide(given)
        by = given.pop("moves")
        before = predictor.decide(given)
        assert (after.boxes != before.boxes).any()
        assert (after.boxes >= 0).all()
        assert (after.boxes <= regions.SIDE).all()
        for index in range(len(before)):
            np.testing.assert_array_equal(after.mask(index), before.mask(index))
        # Without masks the box is the mask.
        bare = {key: value for key, value in given.items() if key not in ("superpixels", "members")}
        boxed = predictor.decide({**bare, "moves": by})
        whole = np.rint(boxed.boxes).astype(int)
        assert [int(boxed.mask(i).sum()) for i in range(len(boxed))] == [
            int((y1 - y0) * (x1 - x0)) for y0, x0, y1, x1 in whole
        ]
        truth = sample.instances
        near = iou(given["boxes"], truth.boxes())
        rows, items = np.flatnonzero(near.max(axis=1) >= 0.6), near.argmax(axis=1)
        kinds = truth.classes[items[rows]] - 1
        best = iou(moved(given["boxes"][rows], by[rows, kinds]), truth.boxes())
        nearer += (best[range(len(rows)), items[rows]] - near.max(axis=1)[rows]).tolist()
    assert np.mean(nearer) > 0


def test_box_regression_is_for_boxes_alone() -> None:
    with pytest.raises(UsageError, match="Box regression is R-CNN's: use variant='box'"):
        SDSConfig(data="d", out="o", box_regression=True)
    with pytest.raises(UsageError, match="takes the pathway 'box'"):
        kseg.models.SDS((32, 32, 4), 2, pathways=["region"], trunk="residual", width=0.0625, moves=True)
