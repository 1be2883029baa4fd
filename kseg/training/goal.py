"""What a training asks of its task: the parts of `fit` that depend on what a network is trained for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from kseg import tasks
from kseg.errors import UsageError
from kseg.progress import Say
from kseg.spec import Spec
from kseg.training.config import DEFAULTS, OPTIONS, TrainConfig
from kseg.training.limits import Size

if TYPE_CHECKING:
    import keras

    from kseg.models.forms import Head
    from kseg.training.settled import Settled


@dataclass(frozen=True)
class Seen:
    """What a look at the training samples tells.

    Args:
        sizes: the distinct (height, width) of the images.
        facts: what the goal itself wants to know of them, for example pixels per class.
    """

    sizes: tuple[Size, ...]
    facts: Any


class Goal(Protocol):
    """Made from the arguments of a run, and asked in this order.

    `encode` is an attribute that may be any function of `kseg.data.load`'s kind.
    """

    def look(self, samples: Sequence[Any], spec: Spec, split: str, say: Say) -> Seen:
        """Look at the training samples; raise DataError where nothing can be learned from them."""

    def recount(self, samples: Sequence[Any], spec: Spec) -> Any:
        """Return the facts of samples that are cut from others."""

    def encode(self, sample: Any) -> Any:
        """Return the target of a sample, made last: see `kseg.data.load`, `encode`."""

    def check_held_out(self, samples: Sequence[Any], spec: Spec, split: str) -> None:
        """Raise DataError where nothing can be scored on the samples that are held out."""

    def class_weights(self, facts: Any, batch_size: int) -> list[float] | None:
        """Return a weight for each class, or None."""

    def loss(self, settled: Settled, head: Head | None = None) -> Any:
        """Return the loss of the network's output, or of one of its other heads."""

    def metrics(self, settled: Settled) -> list[keras.metrics.Metric]:
        """Return the metrics of the network's output; one has the name of the task's headline."""

    def chance(self, spec: Spec, validation: Any, score: float) -> dict[str, Any]:
        """Return what a guess scores on validation batches and whether `score` beats it, or nothing."""


def goal_of(config: TrainConfig, task: tasks.Task) -> Goal:
    """Return the goal of a run.

    Raises:
        UsageError: if an argument is given that the task does not have.
    """
    _refuse_others(config, task)
    goal: Goal = task.part("training")(config)
    return goal


def _refuse_others(config: TrainConfig, task: tasks.Task) -> None:
    given = config.to_dict()
    own: Collection[str] = task.options
    known = {name for row in tasks.names() for name in tasks.find(row).options} & set(OPTIONS)
    for name in sorted(known - set(own)):
        default = DEFAULTS[name] if not isinstance(given[name], Mapping) else {}
        if given[name] != default:
            raise UsageError(
                f"A network of the task '{task.name}' has no argument `{name}` of training: leave it out. "
                f"Received: {name}={given[name]!r}"
            )
