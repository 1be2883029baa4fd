"""On real data the scores are those of pycocotools run apart from kseg, on the files of the data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as codec
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kseg import data
from kseg.data.detections import Detections
from kseg.data.sample import Sample
from kseg.metrics import InstanceScorer

# Enough images of each; coco_mini has crowds, nuclei hundreds of objects.
SETS = {"nuclei": 15, "coco_mini": None}


def as_detections(sample: Sample) -> Detections:
    """The objects of a sample, crowds left out."""
    instances = sample.instances
    assert instances is not None
    ids = [index for index in instances.ids() if not instances.crowd[index - 1]]
    classes = [instances.classes[index - 1] for index in ids]
    masks = (instances.mask(index) for index in ids)
    return Detections.from_masks(masks, np.ones(len(ids)), classes, sample.image.shape[:2])


def spoiled(sample: Sample, classes: int, rng: np.random.Generator) -> Detections:
    """Objects dropped, moved, found twice, in crowds too, some of another class; no two scores are equal."""
    instances, size = sample.instances, sample.image.shape[:2]
    assert instances is not None
    masks, kinds = [], []
    for index in instances.ids():
        for _ in range(rng.choice(3, p=(0.2, 0.6, 0.2))):
            masks.append(np.roll(instances.mask(index), rng.integers(-3, 4, 2), (0, 1)))
            same = rng.random() < 0.9
            kinds.append(instances.classes[index - 1] if same else rng.integers(1, classes))
    return Detections.from_masks(masks, rng.random(len(masks)), kinds, size)


def by_pycocotools(
    file: Path, predictions: dict[str, Detections], by: str, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall of COCOeval as it is; areas and boxes of objects are those of their masks."""
    content = json.loads(file.read_text())
    image_ids = {Path(image["file_name"]).stem: image["id"] for image in content["images"]}
    truth = COCO(str(file))
    for entry in truth.anns.values():
        code = truth.annToRLE(entry)
        entry["area"], entry["bbox"] = float(codec.area(code)), codec.toBbox(code).tolist()
    categories = sorted(truth.getCatIds())
    results: list[dict[str, Any]] = []
    for name, found in predictions.items():
        for index in range(len(found)):
            result = {
                "image_id": image_ids[name],
                "category_id": categories[found.classes[index] - 1],
                "score": float(found.scores[index]),
            }
            code = codec.encode(np.asfortranarray(found.mask(index), np.uint8))
            results.append(
                {**result, "segmentation": code}
                if by == "segm"
                else {**result, "bbox": codec.toBbox(code).tolist()}
            )
    evaluation = COCOeval(truth, truth.loadRes(results), by)
    evaluation.params.imgIds = [image_ids[name] for name in predictions]
    evaluation.params.maxDets = [most]
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval["precision"][..., 0], evaluation.eval["recall"][..., 0]


def mean(values: np.ndarray) -> float | None:
    return float(values[values > -1].mean()) if (values > -1).any() else None


@pytest.mark.parametrize("name", SETS)
def test_truth_as_detections_is_one(shared_data: Path, name: str) -> None:
    samples = data.open(shared_data / name).samples("val", limit=SETS[name])
    scorer, crowds = InstanceScorer(samples.spec.classes), 0
    for sample in samples:
        scorer.add(sample, as_detections(sample))
        crowds += int(sample.instances.crowd.sum())
    scores = scorer.scores()
    keys = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ar", "box_ap", "box_ar", "apr50", "apr_vol")
    assert [scores[key] for key in keys] == pytest.approx([1] * len(keys), abs=1e-9)
    errors = scorer.errors()
    assert errors["correct"] == scores["objects"] > 150
    assert sum(errors[kind] for kind in ("missed", "mislocalised", "wrong_class", "background")) == 0
    assert (crowds > 0) == (name == "coco_mini")


@pytest.mark.parametrize("name", SETS)
def test_every_score_is_that_of_pycocotools_on_the_files(shared_data: Path, name: str) -> None:
    samples = data.open(shared_data / name).samples("val", limit=SETS[name])
    classes, most, rng = samples.spec.classes, 60, np.random.default_rng(0)
    scorer, predictions = InstanceScorer(classes, most=most), {}
    for sample in samples:
        predictions[sample.name] = spoiled(sample, len(classes), rng)
        scorer.add(sample, predictions[sample.name])
    scores = scorer.scores()
    for prefix, by in (("", "segm"), ("box_", "bbox")):
        precision, recall = by_pycocotools(shared_data / name / "instances_val.json", predictions, by, most)
        wanted = {
            "ap": precision[..., 0],
            "ap50": precision[0, ..., 0],
            "ap75": precision[5, ..., 0],
            "ap_small": precision[..., 1],
            "ap_medium": precision[..., 2],
            "ap_large": precision[..., 3],
            "ar": recall[..., 0],
        }
        for key, values in wanted.items():
            assert scores[prefix + key] == mean(values), prefix + key
        rows = [scores["classes"][kind][f"{prefix}ap"] for kind in classes[1:]]
        assert rows == [mean(precision[:, :, index, 0]) for index in range(len(rows))]
    assert 0.1 < scores["ap"] < scores["ap50"] < 0.9
