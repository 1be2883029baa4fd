"""What data must have to be trained on: the one list that the check reports and training refuses by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from kseg.data.counting.counts import ClassCounts
from kseg.errors import DataError
from kseg.spec import Spec
from kseg.text import printable

TRAIN = "train"
VALIDATION = ("val", "validation", "valid")


@dataclass(frozen=True)
class Condition:
    """One condition that data does not meet.

    Attributes:
        code: short stable name, as in `kseg.data.Report`.
        text: what is wrong.
        fix: what to do.
    """

    code: str
    text: str
    fix: str

    def raised(self) -> DataError:
        """Return the error that training ends with."""
        return DataError(f"{self.text}. {self.fix}")


def validation_split(splits: Iterable[str]) -> str | None:
    """Return the split that training validates on unless told otherwise; None where there is none."""
    known = set(splits)
    return next((name for name in VALIDATION if name in known), None)


def of_classes(spec: Spec) -> Condition | None:
    """Return what is wrong with the list of classes."""
    if spec.num_classes > 1:
        return None
    return Condition(
        "few_classes",
        f"The data has one class ('{printable(spec.classes[0], 80)}'), and a network needs two to tell apart",
        'List what is around it as a class too, for example "classes": '
        f'["background", "{printable(spec.classes[0], 80)}"]',
    )


def of_training(
    counts: ClassCounts, spec: Spec, split: str = TRAIN, *, pasted: bool = False
) -> Condition | None:
    """Return what is wrong with the pixels of the split that is trained on; void teaches nothing.

    Args:
        counts: of the split.
        spec: of the data.
        split: its name.
        pasted: whether its pixels are those of instances, whose void is crowds.
    """
    if not counts.valid:
        return of_void(split)
    present = np.flatnonzero(counts.pixels)
    if spec.num_classes < 2 or len(present) > 1:
        return None
    only, void = printable(spec.classes[int(present[0])], 80), counts.void_share()
    fix = "Add images that show the other classes"
    if pasted and void and not present[0]:
        fix = "All annotations are crowds, which are read as void: annotate single objects too (iscrowd: 0)"
    elif void and not pasted:
        fix = f"White of black and white masks is read as void: id_map={{{spec.ignore_id}: 1}}"
    return Condition(
        "one_class", f"All valid pixels of split '{split}' are '{only}' ({void:.0%} of all are void)", fix
    )


def of_void(split: str) -> Condition:
    """Return what is wrong with a split without a valid pixel, be it trained or validated on."""
    return Condition(
        "all_void",
        f"Split '{printable(split)}' has no pixel of any class: all is void",
        "Check `void_id`, palette and id_map",
    )


def stops_training(split: str, splits: Mapping[str, object]) -> bool:
    """Return whether training reads `split`, so that what is wrong with it stops a run."""
    return split in (TRAIN, validation_split(splits))
