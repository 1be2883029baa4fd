"""What an evaluation of found objects says: per class, then over all."""

from __future__ import annotations

from kseg.metrics.instances import InstanceScorer
from kseg.spec import Spec
from kseg.tasks import Result, Table, percent
from kseg.text import printable

SUMMARY = {
    "ap": "mask AP, IoU 0.5 to 0.95",
    "ap50": "mask AP at IoU 0.5",
    "ap75": "mask AP at IoU 0.75",
    "ap_small": "mask AP, objects up to 32 x 32",
    "ap_medium": "mask AP, objects up to 96 x 96",
    "ap_large": "mask AP, larger objects",
    "ar": "mask recall, IoU 0.5 to 0.95",
    "box_ap": "box AP, IoU 0.5 to 0.95",
    "box_ap50": "box AP at IoU 0.5",
    "apr50": "AP^r at IoU 0.5 (SDS)",
    "apr70": "AP^r at IoU 0.7 (SDS)",
    "apr_vol": "AP^r, mean over IoU 0.1 to 0.9 (SDS)",
}
_COLUMNS = {"ap": "AP, %", "ap50": "AP50, %", "ap75": "AP75, %", "box_ap": "box AP, %"}
_ERRORS = {
    "correct": "correct",
    "duplicate": "a second time",
    "mislocalised": "in the wrong place",
    "wrong_class": "of another class",
    "background": "nothing there",
    "crowd": "in a crowd (does not count)",
    "missed": "objects that are missed",
}


def tables(scorer: InstanceScorer, spec: Spec) -> Result:
    """Return all scores, and three tables: of the classes, of the scores, of the kinds of errors."""
    record = scorer.summary()
    classes = [
        (
            printable(name),
            *(percent(row[key]) for key in _COLUMNS),
            str(row["objects"]),
            str(row["detections"]),
        )
        for name, row in record["classes"].items()
    ]
    scores = [(f"{text} ({key}), %", percent(record[key])) for key, text in SUMMARY.items()]
    errors = record["errors"]
    kinds = [(text, str(errors[key])) for key, text in _ERRORS.items()]
    return Result(
        record,
        [
            Table(("class", *_COLUMNS.values(), "objects", "detections"), classes),
            Table((), scores),
            Table((f"detections of score {errors['at_least']:g} and more", "number"), kinds),
        ],
        f"at original size, at most {scorer.most} detections of a class per image",
    )
