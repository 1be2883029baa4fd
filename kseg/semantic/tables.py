"""What an evaluation of class maps says: per class, then over all."""

from __future__ import annotations

from kseg.semantic.scoring import SemanticScorer
from kseg.spec import Spec
from kseg.tasks import Result, Table, percent
from kseg.text import printable

SUMMARY = {
    "miou": "mean IoU",
    "miou_present": "mean IoU, classes in the truth",
    "pixel_acc": "pixel accuracy",
    "mean_acc": "mean class accuracy",
    "fwiou": "frequency-weighted IoU",
}


def tables(scorer: SemanticScorer, spec: Spec) -> Result:
    """Return `pixels`, the summary's scores and `classes`, and two tables of them."""
    scores = scorer.scores()
    truth = scorer.matrix.sum(axis=1)
    classes = [
        {
            "id": index,
            "name": name,
            "iou": scores["iou"][index],
            "acc": scores["acc"][index],
            "pixels": int(pixels),
        }
        for index, (name, pixels) in enumerate(zip(spec.classes, truth, strict=True))
    ]
    record = {"pixels": scorer.total, **{key: scores[key] for key in SUMMARY}, "classes": classes}
    per_class = [
        (
            printable(row["name"]),
            percent(row["iou"]),
            percent(row["acc"]),
            percent(row["pixels"] / max(scorer.total, 1)),
        )
        for row in classes
    ]
    summary = [(f"{text} ({key}), %", percent(scores[key])) for key, text in SUMMARY.items()]
    return Result(
        record,
        [Table(("class", "IoU, %", "accuracy, %", "share, %"), per_class), Table((), summary)],
        "at original size, void left out",
    )
