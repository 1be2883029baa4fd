"""Ids of masks: which are classes and void, and what others probably mean and how to repair them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kseg.errors import DataError
from kseg.spec import Spec


def ignore_id(num_classes: int) -> int:
    """Return the id that void is mapped to: 255, or 65535 beyond 255 classes."""
    return 255 if num_classes <= 255 else 65535


def check_ids(mask: NDArray[np.integer], spec: Spec, where: str) -> None:
    """Raise DataError if a mask holds ids that are neither classes nor void; `where` is what it is called."""
    wrong = [int(i) for i in np.unique(mask) if not (0 <= i < spec.num_classes or i == spec.ignore_id)]
    if wrong:
        raise DataError(ids_message(wrong, spec, where))


def ids_message(wrong: Sequence[int], spec: Spec, where: str) -> str:
    """Return the line about ids out of range: which, where, and the two likely fixes."""
    shown = ", ".join(map(str, wrong[:8])) + (", …" if len(wrong) > 8 else "")
    return (
        f"{where}: mask ids {shown} are neither classes (0-{spec.num_classes - 1}) nor void "
        f"({spec.ignore_id}). If the ids mean other classes, give id_map={{{wrong[0]}: class or "
        f'{spec.ignore_id}}}, or write "id_map" into classes.json; '
        "if the mask is coded by colour, give palette=[...]. `kseg check-data` lists every file"
    )


def listed(ids: Collection[int], most: int = 12) -> str:
    """Return `0, 1, 5` or, for many, `0, 1, 5, ... (40 ids)`."""
    ordered = sorted(ids)
    text = ", ".join(map(str, ordered[:most]))
    return text if len(ordered) <= most else f"{text}, ... ({len(ordered)} ids)"


def likely_fix(wrong: Collection[int], seen: Collection[int], num_classes: int, ignore_id: int) -> str:
    """Say what ids out of range probably are.

    Args:
        wrong: ids found that are neither `0 .. num_classes - 1` nor `ignore_id`.
        seen: all ids found, also the right ones.
        num_classes: number of classes.
        ignore_id: id of void.

    Returns:
        One sentence with the `id_map=`, `palette=` or `void_id` that would repair them.
    """
    values = sorted(set(seen) - {ignore_id})
    if set(wrong) == {num_classes}:
        if 0 not in seen:
            return (
                "Ids seem to start at 1: read them with id_map="
                f"{{1: 0, 2: 1, ..., {num_classes}: {num_classes - 1}}}"
            )
        return (
            f'Either id {num_classes} is void: write "void_id": {num_classes} in classes.json; or a class is '
            "missing from the end of its list"
        )
    fits = len(values) <= num_classes
    if fits and (len(values) > 1 and (max(values) > 100 or min(b - a for a, b in pairwise(values)) > 1)):
        pairs = ", ".join(f"{value}: {index}" for index, value in enumerate(values))
        return (
            f"The ids look like grey levels for the eye: read them with id_map={{{pairs}}}, "
            "if that is the order of the classes"
        )
    pairs = ", ".join(f"{value}: {ignore_id}" for value in sorted(wrong)[:4])
    return (
        f"Read them with id_map={{old: new}} (for example id_map={{{pairs}}} makes them void), add the "
        "missing classes to classes.json, or give palette= if the masks hold colours"
    )
