"""The one table of tasks: what a network is trained for. Semantic and instance segmentation are its rows.

A row names its parts as `"module:name"`, and they are imported at their use: this table lies on the ground
floor, the parts lie where their libraries are. No other room asks which task a model has: it takes the row
that `Spec.task` names and uses its parts. Another package adds a row by `register`, or by an entry point of
the group `kseg.tasks` (name of the task -> the `Task`), which processes that kseg starts find too.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kseg.errors import UsageError, did_you_mean

GROUP = "kseg.tasks"

Outputs = Mapping[str, NDArray[Any]]
# In the shape of an output: a number that only the network's own arguments say.
ANY = 0


class Scorer(Protocol):
    """Scores predictions, one sample after another; two scorers of one kind merge by `+`."""

    def add(self, sample: Any, prediction: Any) -> None:
        """Count one prediction against its sample's truth."""

    def scores(self) -> dict[str, Any]:
        """Return every score, JSON-ready; `Task.headline` is one of the keys, in 0..1, larger is better."""

    def comparable(self) -> float:
        """Return the score by which two networks are compared on one truth, in 0..1."""

    def parts(self) -> dict[str, float | None]:
        """Return the score of each part that may have a budget (classes); None where it has no truth."""

    def chance(self) -> float | None:
        """Return what `comparable` gives without looking at an image; None: no such figure."""

    def agreement(self, one: Any, other: Any) -> tuple[int, int]:
        """Return how many things two predictions of one image agree in, and of how many."""

    def summary(self) -> dict[str, Any]:
        """Return what a report keeps, JSON-ready."""


class Predictor(Protocol):
    """Images of any size in, predictions out."""

    spec: Any
    runtime: Any

    def stream(self, images: Iterable[Any]) -> Iterator[Any]:
        """Yield one prediction per image, in order."""

    def outputs(self, image: Any) -> Outputs:
        """Return what the network says of one image, by the names of its outputs."""

    def decide(self, outputs: Outputs) -> Any:
        """Return the prediction that outputs of the network mean."""

    def close(self) -> None:
        """Free the runtime."""


class OneOutput:
    """Base of runtimes: they give their outputs by name, and a call gives the only one."""

    def outputs(self, images: NDArray[np.float32]) -> Outputs:
        """Return every output of the network by name."""
        raise NotImplementedError

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the network's one output for images `(B, H, W, 3)`; see `outputs`.

        Raises:
            UsageError: if there are several.
        """
        found = self.outputs(images)
        if len(found) != 1:
            raise UsageError(f"This network has outputs {', '.join(found)}: ask its runtime for `outputs`")
        return next(iter(found.values()))


@dataclass(frozen=True)
class Table:
    """A table for people: the first column holds names, the others numbers as text.

    Args:
        columns: headings; none: it has no line of headings.
        rows: a text per column.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def percent(value: float | None) -> str:
    """Return a share in 0..1 as a cell of a table of per cents; a dash for None."""
    return "-" if value is None else f"{100 * value:.1f}"


@dataclass(frozen=True)
class Result:
    """What an evaluation says.

    Args:
        record: JSON-ready; the headline is in it.
        tables: for people.
        how: how it was scored, in a few words.
    """

    record: dict[str, Any]
    tables: Sequence[Table]
    how: str


@dataclass(frozen=True)
class Page:
    """What a task shows in a report, as HTML.

    Args:
        cards: figures under the heading, `(value, what it is)`.
        examples: section with pictures.
        tables: sections with tables.
    """

    cards: list[tuple[str, str]]
    examples: str
    tables: str


@dataclass(frozen=True, kw_only=True)
class Task:
    """One row of the table.

    Args:
        name: what `Spec.task` and `register(task=...)` of a network say.
        headline: key of the score that tells how good a network is: in logs, JSON and history (there also
            with `val_`); in 0..1, larger is better.
        label: its short name for people, as in "mIoU".
        title: its long name, as in "mean IoU".
        part_label: name of the score of one class, as in "IoU".
        agreed: what two predictions have in common, as in "same class on {share} of pixels".
        scored: how a data set is scored, for the notes of a report; `{splits}` is filled in.
        charts: columns of the history that are shares in 0..1 -> titles of their charts, in order.
        options: arguments of a training that not every task has: they are refused where a task does not list
            them.
        looks: which of the arguments that predictors have in common its predictor takes (`size`, `resize`,
            `flip`, `scales`, `overlap`, `batch_size`; and `say`, which takes a line).
        look: module with further options of `kseg evaluate` and `kseg predict`; empty: none.
            `add_arguments(parser)`; `prepare(args)` checks them before a model is opened;
            `build(args, runtime, options, prepared) -> Predictor`, with the options of `looks`;
            `describe(args) -> dict`, JSON-ready; `around(options) -> list` says in words what stood around
            the network.
        commands: further commands: name -> module with `HELP`, `EXAMPLE`, `add_arguments` and `run`.
        channels: of the network's input: 3 of the image, and what it is told besides.
        outputs: `(spec, size) -> {name: shape}`: the outputs of its exported graph, batch left out; `ANY` for
            sides that the spec does not say.
        scorer: `(spec, samples) -> (Scorer, samples)`: checks that samples fit the model, and returns them in
            its terms.
        predictor: `(source, *, size=None, **options) -> Predictor`; source: a model, a runtime, or a file.
        training: `(config) -> kseg.training.goal.Goal`.
        check_foreign: `(network) -> None`: warns of, or refuses, a network that kseg did not make and that
            does not give what the task needs, when it is saved.
        pictures: module with `KINDS` (kind -> how its file's name ends), `WRITTEN` (the kinds that are
            written unless others are asked for), `HELP`, `write(kind, target, image, prediction, spec)`,
            `describe(prediction, spec) -> dict` (what `kseg predict` says of it) and `truth(sample)`.
        tables: `(scorer, spec) -> Result`: what `kseg evaluate` says.
        page: `(examples, scores, spec) -> Page`: what the report shows.
        quickstart: arguments of `kseg train` by which `kseg quickstart` trains a network of this task on the
            embedded sample within minutes; empty: it has none.
        jumps: whether its outputs jump (which objects come out, and in what order, turns on the last digit of
            a score): then no distance of outputs tells whether a conversion is right, only the score.
        drawn: of networks that see parts of an image, hundreds of them: how many of each image's inputs int8
            learns its ranges from, drawn at random. These ranges are the widest of all inputs: what one part
            has says little of the next. 0: it learns from all, and averages.
        over: other tasks whose models can be judged as this one -> a module that makes its predictions of
            theirs: `add_arguments(parser)`, `wrap(args, predictor) -> Predictor` (whose `spec.task` is this
            one; the predictor itself where nobody asked), `describe(args) -> dict` and `around(options)` as
            in `look`.
    """

    name: str
    headline: str
    label: str
    title: str
    part_label: str
    agreed: str
    scored: str
    outputs: str
    scorer: str
    predictor: str
    training: str
    check_foreign: str
    pictures: str
    tables: str
    page: str
    look: str = ""
    charts: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()
    channels: int = 3
    looks: Sequence[str] = ()
    quickstart: str = ""
    jumps: bool = False
    drawn: int = 0
    over: Mapping[str, str] = field(default_factory=dict)

    def predicts(self, source: Any, **options: Any) -> Any:
        """Return the predictor of a model, with those of `options` that its predictors take (`looks`)."""
        taken = {name: value for name, value in options.items() if name in self.looks}
        return self.part("predictor")(source, **taken)

    def part(self, name: str) -> Any:
        """Import and return what the row names for one of its parts."""
        module, _, attribute = str(getattr(self, name)).partition(":")
        loaded = importlib.import_module(module)
        return getattr(loaded, attribute) if attribute else loaded


_ROWS: dict[str, Task] = {}


def register(task: Task) -> Task:
    """Enter a row.

    Raises:
        ValueError: if another row has the name.
    """
    if _ROWS.setdefault(task.name, task) != task:
        raise ValueError(f"two tasks are called {task.name!r}")
    return task


def names() -> list[str]:
    """Return the names of the tasks that are known without looking into other packages."""
    return list(_ROWS)


def described_outputs(spec: Any) -> str:
    """Return the outputs that a network of this spec has, for messages: `logits (B, H, W, 3)`."""
    letters = {-1: "H", -2: "W", ANY: "N"}
    shapes = find(spec.task).part("outputs")(spec, (-1, -2))
    return " and ".join(
        f"{name} ({', '.join(['B', *(letters.get(side, str(side)) for side in shape)])})"
        for name, shape in shapes.items()
    )


def commands() -> dict[str, str]:
    """Return the commands of all tasks, those of installed packages too -> their modules."""
    load_installed()
    return {name: module for row in _ROWS.values() for name, module in row.commands.items()}


def charts() -> dict[str, str]:
    """Return the columns of histories that are shares in 0..1, of all tasks -> titles of their charts."""
    return {column: title for row in _ROWS.values() for column, title in row.charts.items()}


@functools.cache
def load_installed() -> None:
    """Enter the rows of all installed packages; with their modules come the networks that these register.

    Once: it takes some milliseconds.
    """
    for point in metadata.entry_points(group=GROUP):
        register(point.load())


def find(name: str) -> Task:
    """Return the row of a name; packages that are installed are asked for what the table lacks.

    Raises:
        UsageError: if there is no such task.
    """
    if name not in _ROWS:
        load_installed()
    if name not in _ROWS:
        raise UsageError(
            f"There is no task '{name}'.{did_you_mean(name, names())} Known: {', '.join(names())}. "
            "Another package may bring it: install it"
        )
    return _ROWS[name]


register(
    Task(
        name="semantic",
        headline="miou",
        label="mIoU",
        title="mean IoU",
        part_label="IoU",
        agreed="same class on {share} of pixels",
        scored="one confusion matrix over all images of {splits}, at their original size, ignored pixels "
        "left out; printed again by kseg evaluate.",
        charts={"miou": "Mean IoU, %", "pixel_acc": "Pixel accuracy, %"},
        options=(
            "loss", "loss_args", "class_weights", "class_weights_power", "sampling", "samples_per_image",
            "crops", "crops_args",
        ),
        looks=("size", "resize", "overlap", "batch_size", "flip", "scales", "say"),
        look="kseg.semantic.options.look",
        commands={"train-segments": "kseg.semantic.options.train_segments"},
        outputs="kseg.semantic.outputs:outputs",
        scorer="kseg.semantic.scoring:scorer",
        predictor="kseg.semantic.inference.predictor:Predictor",
        training="kseg.semantic.goal:SemanticGoal",
        check_foreign="kseg.semantic.foreign:check_foreign",
        pictures="kseg.semantic.pictures",
        tables="kseg.semantic.tables:tables",
        page="kseg.semantic.report_page:page",
        quickstart="--model unet --model-args '{\"width\": 0.25}' --size 256x256 --crop 128x128 --epochs 60 "
        "--batch-size 8 --learning-rate 0.003 --loss cross_entropy+dice --class-weights none",
    )
)  # fmt: skip
_INSTANCE = register(
    Task(
        name="instance",
        headline="ap",
        label="AP",
        title="mask AP",
        part_label="AP",
        agreed="{share} of the objects of score 0.5 and more found by both",
        scored="COCO's AP over all images of {splits}, at original size; printed again by kseg evaluate.",
        charts={"ap": "Mask AP, %", "ap50": "Mask AP50, %"},
        looks=("size", "resize", "overlap", "batch_size"),
        outputs="kseg.instance.outputs:outputs",
        scorer="kseg.instance.scoring:scorer",
        predictor="kseg.instance.predictor:InstancePredictor",
        training="kseg.instance.goal:InstanceGoal",
        check_foreign="kseg.instance.foreign:check_foreign",
        pictures="kseg.instance.pictures",
        tables="kseg.instance.tables:tables",
        page="kseg.instance.report_page:page",
        quickstart="--model stardist --model-args '{\"width\": 0.5}' --size 256x256 --crop 128x128 "
        "--epochs 100 --batch-size 4 --learning-rate 0.002 --flip-vertical 0.5 --rotation 180 --val-every 10",
        jumps=True,
        over={"semantic": "kseg.instance.from_classes"},
    )
)
# Instances too, by networks that classify regions which something else proposed (SDS, R-CNN).
register(
    dataclasses.replace(
        _INSTANCE,
        name="proposals",
        channels=4,
        charts={"accuracy": "Regions classified right, %"},
        looks=(),
        quickstart="",
        jumps=False,
        drawn=16,
        over={},
        look="kseg.instance.sds.look",
        commands={"train-sds": "kseg.instance.sds.command"},
        outputs="kseg.instance.sds.outputs:outputs",
        predictor="kseg.instance.sds.predictor:RegionPredictor",
        training="kseg.instance.sds.goal:refuse",
        check_foreign="kseg.instance.sds.goal:check_foreign",
    )
)
