"""The gate: does the artefact still see what the trained model sees, on real images?"""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from deploy.formats import NoDeviceError
from deploy.images import Images, spread
from deploy.metadata import load, read_spec
from deploy.quiet import quiet
from kseg import tasks
from kseg.checks import whole
from kseg.errors import UsageError
from kseg.files import final_name
from kseg.progress import Progress, silent

if TYPE_CHECKING:
    import keras

    from kseg.spec import Spec
    from kseg.tasks import Task

MINIMUM_IMAGES = 8


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What the gate found. Scores and agreement are 0-1; `drop` and `budget` are in points of 100.

    `reference` and `value` have the metric's own name too, as attributes and in `to_dict`: `miou_reference`
    and `miou` of a semantic model.

    Args:
        status: one of the constants below.
        images: how many real images were compared; `split` and `source` say which.
        metric: key of the score by which they are compared: the headline of the model's task.
        label: its short name for people.
        rms_over_std: rms error of an output over the standard deviation of the reference's; of the worst.
        max_abs: largest error of one number of it.
        agreement: share of what is decided (classes of pixels, void included) that is the same.
        reference: score of the reference (of a semantic model: over the classes that the truth has).
        value: score of the artefact on the same truth.
        drop: `100 * (reference - value)`.
        budget: the largest drop that passes.
        class_budget: the largest drop of any one class that passes; None: not asked for.
        chance: the score of the best guess that does not look at an image; None: no such figure.
        near_chance: the reference is hardly better than that.
        reasons: why the status is FAILED, a text each.
        per_class: for each class of the spec: `class`, `reference`, `artefact` (None where the truth
            lacks the class) and `drop`.
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
    metric: str = ""
    label: str = ""
    rms_over_std: float | None = None
    max_abs: float | None = None
    agreement: float | None = None
    reference: float | None = None
    value: float | None = None
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

    def __getattr__(self, name: str) -> Any:
        if (metric := self.__dict__.get("metric")) and name in (metric, f"{metric}_reference"):
            return self.value if name == metric else self.reference
        raise AttributeError(f"a Verification has no attribute '{name}'")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        named = {f"{self.metric}_reference": self.reference, self.metric: self.value} if self.metric else {}
        return {
            **asdict(self),
            **named,
            "passed": self.passed,
            "per_class": [dict(row) for row in self.per_class],
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What an artefact may lose, and whether a reference near chance is taken. Losses in points of 100.

    Args:
        score: largest drop of the task's score.
        one_class: largest drop of the score of any one class; None: any.
        near_chance: judge against a reference near chance instead of failing.

    Raises:
        UsageError: if a drop is not finite or is negative.
    """

    score: float = 1.0
    one_class: float | None = None
    near_chance: bool = False

    def __post_init__(self) -> None:
        for name, value in (("max_miou_drop", self.score), ("max_class_drop", self.one_class)):
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UsageError(f"Argument `{name}` must be points >= 0. Received: {value}")


class _Errors:
    """Running sums of one output's error, so that memory does not grow with the images."""

    def __init__(self) -> None:
        self._squares = self._sum = self._sum_of_squares = 0.0
        self._values = 0
        self.max_abs = 0.0
        self.is_finite = True

    def add(self, reference: np.ndarray, output: np.ndarray) -> None:
        expected, received = reference.astype(np.float64), output.astype(np.float64)
        self.is_finite = self.is_finite and bool(np.isfinite(received).all())
        error = received - expected
        self._squares += float((error**2).sum())
        self._sum += float(expected.sum())
        self._sum_of_squares += float((expected**2).sum())
        self._values += expected.size
        self.max_abs = max(self.max_abs, float(np.abs(error).max()))

    @property
    def rms_over_std(self) -> float:
        mean = self._sum / self._values
        variance = max(self._sum_of_squares / self._values - mean**2, 1e-24)
        return math.sqrt(self._squares / self._values / variance)


class _Comparison:
    """Two predictors over the same images: their scores, where they agree, how far their outputs differ."""

    def __init__(self, task: Task, spec: Spec, images: Images) -> None:
        self.task = task
        scorer = task.part("scorer")
        self.reference, samples = scorer(spec, images.samples)
        self.artefact, _ = scorer(spec, images.samples)
        self.images = replace(images, samples=samples)
        self._errors: dict[str, _Errors] = {}
        self._same = self._of = 0

    def run(self, expected: Any, received: Any, progress: Progress, text: str) -> None:
        for sample in progress(self.images, len(self.images), text):
            reference, outputs = expected.outputs(sample.image), received.outputs(sample.image)
            for name, values in reference.items():
                self._errors.setdefault(name, _Errors()).add(values, outputs[name])
            before, after = expected.decide(reference), received.decide(outputs)
            same, of = self.reference.agreement(before, after)
            self._same, self._of = self._same + same, self._of + of
            self.reference.add(sample, before)
            self.artefact.add(sample, after)

    @property
    def broken(self) -> list[str]:
        """Names of the artefact's outputs that were not finite."""
        return [name for name, error in self._errors.items() if not error.is_finite]

    @property
    def worst(self) -> _Errors:
        """The output that is furthest from the reference's."""
        return max(self._errors.values(), key=lambda error: error.rms_over_std)

    @property
    def agreement(self) -> float:
        return self._same / self._of

    def per_class(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        after = self.artefact.parts()
        for name, old in self.reference.parts().items():
            new = after[name] if old is not None else None
            drop = None if old is None or new is None else 100 * (old - new)
            rows.append({"class": name, "reference": old, "artefact": new, "drop": drop})
        return rows


def _judge(compared: _Comparison, budget: Budget) -> Verification:
    from kseg.metrics.chance import near_chance

    task, images = compared.task, compared.images
    rows = compared.per_class()
    before, after = compared.reference.comparable(), compared.artefact.comparable()
    guess = compared.reference.chance()
    near = guess is not None and near_chance(before, guess)
    reasons = _reasons(compared, rows, 100 * (before - after), budget)
    notes: list[str] = []
    if guess is not None and near:
        said = (
            f"the reference is near chance: {task.label} {100 * before:.2f}, and {100 * guess:.2f} can be "
            "had without looking at the image, so this check proves nothing"
        )
        (notes if budget.near_chance else reasons).append(said)
    if len(images) < MINIMUM_IMAGES:
        notes.append(f"only {len(images)} images: judge with at least {MINIMUM_IMAGES}")
    finite = not compared.broken
    return Verification(
        status=Verification.FAILED if reasons else Verification.PASSED,
        images=len(images),
        source=images.source,
        split=images.split,
        metric=task.headline,
        label=task.label,
        rms_over_std=compared.worst.rms_over_std if finite else None,
        max_abs=compared.worst.max_abs if finite else None,
        agreement=compared.agreement,
        reference=before,
        value=after,
        drop=100 * (before - after),
        budget=budget.score,
        class_budget=budget.one_class,
        chance=guess,
        near_chance=near,
        reasons=tuple(reasons),
        per_class=tuple(rows),
        note="; ".join(notes),
    )


def _reasons(compared: _Comparison, rows: list[dict[str, Any]], drop: float, budget: Budget) -> list[str]:
    """Return what the artefact does that its budget does not allow."""
    reasons = []
    if compared.broken:
        reasons.append(f"the artefact gives NaN or infinite {', '.join(compared.broken)}")
    if not drop <= budget.score:
        reasons.append(f"it lost {drop:.2f} points of {compared.task.label}; the budget is {budget.score:g}")
    if budget.one_class is not None:
        over = [row for row in rows if row["drop"] is not None and not row["drop"] <= budget.one_class]
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

    Both get the same pixels at the artefact's input size, by its rule, through the same predictor, and are
    scored as their task is (semantic: mean IoU, at the images' original size, void left out).

    Args:
        path: the artefact.
        reference: the model it was made from: a `.keras` file, a Keras model with `.spec`, or another
            artefact.
        data: folder, `tfds:NAME`, source, or a sequence of samples with masks.
        split: default: `val`, else `test`, else `train`.
        limit: compare at most so many images, spread evenly over the split; at least 8. Default: all.
        max_miou_drop: the budget, in points (0-100) of the task's score: of mIoU for a semantic model.
        max_class_drop: the budget of each class, in points of its own (0-100); None: only the mean counts.
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
    budget = Budget(score=max_miou_drop, one_class=max_class_drop, near_chance=allow_near_chance)
    spec = read_spec(path)
    task = tasks.find(spec.task)
    try:
        runtime = load(path, threads=threads)
    except NoDeviceError as error:
        return Verification(
            status=Verification.NOT_RUN, metric=task.headline, label=task.label, note=str(error)
        )
    try:
        with quiet():
            expected = task.predicts(reference, size=runtime.input_size, resize=spec.resize)
        if expected.spec.classes != spec.classes:
            raise UsageError(
                f"'{Path(path).name}' and its reference know other classes: {spec.classes} and "
                f"{expected.spec.classes}. Give the model it was exported from"
            )
        _check_same_network(Path(path).name, spec, expected.spec)
        received = task.predicts(runtime)
        compared = _Comparison(task, spec, spread(data, split=split, limit=limit))
        compared.run(expected, received, progress or silent, f"Verifying {final_name(path)}")
    finally:
        runtime.close()
    return _judge(compared, budget)
