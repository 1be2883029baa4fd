"""The gate: does the artefact still see what the trained model sees, on real images?"""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from deploy.formats import NoDeviceError
from deploy.images import Images, spread
from deploy.metadata import load, read_spec
from deploy.quiet import quiet
from kseg.checks import whole
from kseg.errors import DataError, UsageError
from kseg.files import final_name
from kseg.progress import Progress, silent

if TYPE_CHECKING:
    import keras

    from kseg.spec import Spec

MINIMUM_IMAGES = 8


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What the gate found. Shares (IoU, agreement) are 0-1; `drop` and `budget` are in points of 100.

    Args:
        status: one of the constants below.
        images: how many real images were compared; `split` and `source` say which.
        rms_over_std: rms error of the logits over the standard deviation of the reference's.
        max_abs: largest error of one logit.
        agreement: share of pixels (void included) with the same class.
        miou_reference: mean IoU of the reference over the classes that the truth has.
        miou: mean IoU of the artefact over the same classes.
        drop: `100 * (miou_reference - miou)`.
        budget: the largest drop that passes.
        class_budget: the largest drop of any one class's IoU that passes; None: not asked for.
        chance: mean IoU, over the same classes, of the best guess (`kseg.metrics.chance_miou`).
        near_chance: the reference is hardly better than that.
        reasons: why the status is FAILED, a text each.
        per_class: for each class of the spec: `class`, `reference`, `artefact` (IoU; None where the
            truth lacks the class) and `drop`.
        note: what the reader should know: too few images, no device.
    """

    PASSED: ClassVar[str] = "passed"
    FAILED: ClassVar[str] = "FAILED"
    UNVERIFIED: ClassVar[str] = "UNVERIFIED"
    NOT_RUN: ClassVar[str] = "built, not run: no CUDA device"

    status: str
    images: int = 0
    source: str = ""
    split: str = ""
    rms_over_std: float | None = None
    max_abs: float | None = None
    agreement: float | None = None
    miou_reference: float | None = None
    miou: float | None = None
    drop: float | None = None
    budget: float | None = None
    class_budget: float | None = None
    chance: float | None = None
    near_chance: bool = False
    reasons: tuple[str, ...] = ()
    per_class: tuple[dict[str, Any], ...] = ()
    note: str = ""

    @property
    def passed(self) -> bool | None:
        """True, False, or None when the artefact was not judged."""
        return {self.PASSED: True, self.FAILED: False}.get(self.status)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            **asdict(self),
            "passed": self.passed,
            "per_class": [dict(row) for row in self.per_class],
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What an artefact may lose, and whether a reference near chance is taken. Losses in points of 100.

    Args:
        miou: largest drop of mean IoU.
        one_class: largest drop of the IoU of any one class; None: any.
        near_chance: judge against a reference near chance instead of failing.

    Raises:
        UsageError: if a drop is not finite or is negative.
    """

    miou: float = 1.0
    one_class: float | None = None
    near_chance: bool = False

    def __post_init__(self) -> None:
        for name, value in (("max_miou_drop", self.miou), ("max_class_drop", self.one_class)):
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UsageError(f"Argument `{name}` must be points >= 0. Received: {value}")


class _Comparison:
    """Running sums over images, so that memory does not grow with their number."""

    def __init__(self, num_classes: int, ignore_id: int) -> None:
        from kseg.metrics.confusion import Confusion

        self.reference = Confusion(num_classes, ignore_id)
        self.artefact = Confusion(num_classes, ignore_id)
        self._squares = self._sum = self._sum_of_squares = 0.0
        self._values = self._pixels = self._same = 0
        self.max_abs = 0.0
        self.is_finite = True

    def update(self, mask: np.ndarray, reference: np.ndarray, logits: np.ndarray) -> None:
        expected, received = reference.astype(np.float64), logits.astype(np.float64)
        self.is_finite = self.is_finite and bool(np.isfinite(received).all())
        error = received - expected
        self._squares += float((error**2).sum())
        self._sum += float(expected.sum())
        self._sum_of_squares += float((expected**2).sum())
        self._values += expected.size
        self.max_abs = max(self.max_abs, float(np.abs(error).max()))
        before, after = reference.argmax(-1), logits.argmax(-1)
        self._same += int((before == after).sum())
        self._pixels += before.size
        self.reference.update(mask, before)
        self.artefact.update(mask, after)

    @property
    def rms_over_std(self) -> float:
        mean = self._sum / self._values
        variance = max(self._sum_of_squares / self._values - mean**2, 1e-24)
        return math.sqrt(self._squares / self._values / variance)

    @property
    def agreement(self) -> float:
        return self._same / self._pixels


def _per_class(compared: _Comparison, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    in_truth = compared.reference.matrix.sum(axis=1) > 0
    before, after = compared.reference.scores()["iou"], compared.artefact.scores()["iou"]
    rows: list[dict[str, Any]] = []
    for index, name in enumerate(classes):
        if not in_truth[index]:
            rows.append({"class": name, "reference": None, "artefact": None, "drop": None})
            continue
        old, new = float(before[index] or 0.0), float(after[index] or 0.0)
        rows.append({"class": name, "reference": old, "artefact": new, "drop": 100 * (old - new)})
    return rows


def _judge(compared: _Comparison, images: Images, classes: tuple[str, ...], budget: Budget) -> Verification:
    from kseg.metrics.chance import chance_miou, near_chance

    if compared.reference.total == 0:
        raise DataError(
            f"No pixel of the {len(images)} images of '{images.source}' has a label; nothing to judge."
        )
    rows = _per_class(compared, classes)
    seen = [row for row in rows if row["reference"] is not None]
    before = sum(row["reference"] for row in seen) / len(seen)
    after = sum(row["artefact"] for row in seen) / len(seen)
    guess = chance_miou(compared.reference.matrix)
    near = near_chance(before, guess)
    reasons = _reasons(compared, seen, 100 * (before - after), budget)
    said = (
        f"the reference is near chance: mIoU {100 * before:.2f}, and {100 * guess:.2f} can be had without "
        "looking at the image, so this check proves nothing"
    )
    if near and not budget.near_chance:
        reasons.append(said)
    notes = [said] if near and budget.near_chance else []
    if len(images) < MINIMUM_IMAGES:
        notes.append(f"only {len(images)} images: judge with at least {MINIMUM_IMAGES}")
    return Verification(
        status=Verification.FAILED if reasons else Verification.PASSED,
        images=len(images),
        source=images.source,
        split=images.split,
        rms_over_std=compared.rms_over_std if compared.is_finite else None,
        max_abs=compared.max_abs if compared.is_finite else None,
        agreement=compared.agreement,
        miou_reference=before,
        miou=after,
        drop=100 * (before - after),
        budget=budget.miou,
        class_budget=budget.one_class,
        chance=guess,
        near_chance=near,
        reasons=tuple(reasons),
        per_class=tuple(rows),
        note="; ".join(notes),
    )


def _reasons(compared: _Comparison, seen: list[dict[str, Any]], drop: float, budget: Budget) -> list[str]:
    """Return what the artefact does that its budget does not allow."""
    reasons = []
    if not compared.is_finite:
        reasons.append("the artefact gives NaN or infinite logits")
    if not drop <= budget.miou:
        reasons.append(f"it lost {drop:.2f} points of mIoU; the budget is {budget.miou:g}")
    if budget.one_class is not None:
        over = [row for row in seen if not row["drop"] <= budget.one_class]
        reasons += [
            f"it lost {row['drop']:.2f} points of '{row['class']}'; the budget of a class is "
            f"{budget.one_class:g}"
            for row in sorted(over, key=lambda row: -row["drop"])
        ]
    return reasons


def _check_same_network(name: str, artefact: Spec, reference: Spec) -> None:
    """Refuse a reference of another architecture; weights of another training cannot be told."""
    from kseg.models.registry import from_file

    artefact, reference = (
        spec.replace(arch_args=from_file(spec.architecture, spec.arch_args)) for spec in (artefact, reference)
    )
    for field in ("architecture", "arch_args"):
        own, other = getattr(artefact, field), getattr(reference, field)
        if own and other and own != other:
            raise UsageError(
                f"'{name}' was exported from {artefact.architecture} with {dict(artefact.arch_args)}, and "
                f"the reference is {reference.architecture} with {dict(reference.arch_args)}. Give the model "
                "it was exported from"
            )


def verify(
    path: str | os.PathLike[str],
    *,
    reference: keras.Model | str | os.PathLike[str],
    data: Any,
    split: str | None = None,
    limit: int | None = None,
    max_miou_drop: float = 1.0,
    max_class_drop: float | None = None,
    allow_near_chance: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Run the artefact and its reference on the same real images and compare.

    Both get the same pixels at the artefact's input size, through the same Predictor; mIoU is counted at
    the images' original size, void left out.

    Args:
        path: the artefact.
        reference: the model it was made from: a `.keras` file, a Keras model with `.spec`, or another
            artefact.
        data: folder, `tfds:NAME`, source, or a sequence of samples with masks.
        split: default: `val`, else `test`, else `train`.
        limit: compare at most so many images, spread evenly over the split; at least 8. Default: all.
        max_miou_drop: the budget, in points of mIoU (0-100).
        max_class_drop: the budget of each class, in points of its IoU (0-100); None: only the mean counts.
        allow_near_chance: judge also against a reference that is near chance. It fails otherwise: a network
            that has learned nothing loses nothing.
        threads: CPU threads of the artefact's runtime.
        progress: wraps the loop over images.

    Returns:
        A `Verification`; nothing is raised when the gate fails. An engine on a machine without a GPU gives
        the status "built, not run: no CUDA device", which is neither pass nor failure.

    Raises:
        UsageError, DataError, ArtefactError: for arguments, images and files that cannot be compared.
    """
    if limit is not None:
        whole(limit, "Argument", "limit", MINIMUM_IMAGES)
    budget = Budget(miou=max_miou_drop, one_class=max_class_drop, near_chance=allow_near_chance)
    spec = read_spec(path)
    try:
        runtime = load(path, threads=threads)
    except NoDeviceError as error:
        return Verification(status=Verification.NOT_RUN, note=str(error))
    from kseg.inference import Predictor

    try:
        with quiet():
            expected = Predictor(reference, size=runtime.input_size)
        if expected.spec.classes != spec.classes:
            raise UsageError(
                f"'{Path(path).name}' and its reference know other classes: {spec.classes} and "
                f"{expected.spec.classes}. Give the model it was exported from"
            )
        _check_same_network(Path(path).name, spec, expected.spec)
        received = Predictor(runtime)
        images = spread(data, split=split, limit=limit).in_classes_of(spec)
        compared = _Comparison(spec.num_classes, spec.ignore_id)
        for sample in (progress or silent)(images, len(images), f"Verifying {final_name(path)}"):
            compared.update(sample.mask, expected.logits(sample.image), received.logits(sample.image))
    finally:
        runtime.close()
    return _judge(compared, images, spec.classes, budget)
