"""What a run settles by trying: precision, compilation and, where asked for, the batch size."""

from __future__ import annotations

import dataclasses
import gc
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from kseg.progress import Say
from kseg.training import batch_size, precision
from kseg.training.batch_size import OutOfMemoryError, Steps
from kseg.training.compiled import Networks
from kseg.training.config import AUTO, TrainConfig
from kseg.training.feeds import Feeds, make_feeds
from kseg.training.settled import Ground, Settled, settle_numbers

T = TypeVar("T")


def settle(
    config: TrainConfig, ground: Ground, networks: Networks, before: Mapping[str, Any] | None, say: Say
) -> tuple[Settled, Feeds]:
    """Return every number of the run, and its batches.

    A resumed run keeps what it found, as timing could now choose otherwise.

    Args:
        config: the arguments.
        ground: what they, the data and the weights to start from say.
        networks: what is tried.
        before: `run.json` of the run to resume.
        say: prints one line.

    Raises:
        UsageError, DataError: from the feeds.
        OutOfMemoryError: if the steps that are tried do not fit into memory.
    """
    kept = {} if before is None else before["resolved"]
    searched = config.batch_size == AUTO
    size = kept.get("batch_size", batch_size.START) if searched else config.images_per_step
    feeds = make_feeds(config, ground, size)
    settled = settle_numbers(config, ground, feeds, size)
    if before is not None:
        return dataclasses.replace(
            settled,
            precision=kept["precision"],
            precision_reason=kept["precision_reason"],
            # Records of kseg 0.1 do not have the others.
            jit=kept.get("jit_compile", precision.jit_compile()),
            jit_reason=kept.get("jit_reason", ""),
            batch_reason=kept.get("batch_reason", ""),
        ), feeds
    trial = Trial(config, networks, settled, feeds)
    choice = trial.choose_precision()
    networks.keep(choice.policy)
    found: dict[str, Any] = {"precision": choice.policy, "precision_reason": choice.reason}
    trial = dataclasses.replace(trial, settled=dataclasses.replace(settled, **found))
    compilation = trial.choose_compilation()
    found |= {"jit": compilation.jit, "jit_reason": compilation.reason}
    settled = dataclasses.replace(settled, **found)
    if searched:
        best = dataclasses.replace(trial, settled=settled).find_batch_size()
        # The number of steps, and what follows from it, are those of this batch size.
        feeds = make_feeds(config, ground, best.size)
        settled = settle_numbers(config, ground, feeds, best.size)
        settled = dataclasses.replace(settled, **found, batch_reason=best.reason)
        say(f"batch size {best.size}: {best.reason}")
    return settled, feeds


@dataclass(frozen=True)
class Trial:
    """Training steps of a run before it begins, or when one did not fit into memory.

    Args:
        config: the arguments.
        networks: what is tried.
        settled: the values so far.
        feeds: the batches so far.
    """

    config: TrainConfig
    networks: Networks
    settled: Settled
    feeds: Feeds

    def choose_precision(self) -> precision.Choice:
        """Return the dtype policy of the run, timed where it is to be found and the run is long enough."""
        steps = self.settled.total_steps
        if self.config.precision != AUTO:
            return precision.Choice(self.config.precision, "as asked")
        if steps < precision.LEAST_STEPS:
            return precision.Choice("float32", f"a run of {steps} steps is too short to time others")
        return self.explained(lambda: precision.choose(self._form_under, self._batch()))

    def choose_compilation(self) -> precision.Compilation:
        """Return whether the run's steps are compiled by XLA."""
        known = precision.compilation()
        steps = self.settled.total_steps
        if self.config.xla != AUTO:
            return precision.Compilation(self.config.xla == "on", "as asked")
        if known is not None:
            return known
        if steps < precision.LEAST_STEPS:
            return precision.Compilation(False, f"a run of {steps} steps is too short to time XLA")
        return self.explained(lambda: precision.choose_compilation(self._form_by, self._batch()))

    def find_batch_size(self) -> batch_size.Found:
        """Return the batch size for `--batch-size auto`, found by training steps of the run's own network.

        At most 256 images, an eighth of an epoch, and what the CPU's free memory is estimated to hold are
        tried.
        """
        epoch = self.settled.steps_per_epoch * self.settled.batch_size
        least = batch_size.LEAST_STEPS_PER_EPOCH
        most, bound = batch_size.MOST, ""
        if epoch // least < most:
            most = max(1, epoch // least)
            bound = f"an epoch of {epoch} {self.config.examples} should have {least} steps"
        fitting = self._most_for_memory()
        if fitting is not None and fitting < most:
            most, bound = fitting, "more may not fit into the free memory"
        return batch_size.find(self._steps().seconds, most, bound)

    def explained(self, work: Callable[[], T]) -> T:
        """Return `work()`; when it runs out of memory, find out what fits and say so.

        Raises:
            OutOfMemoryError: naming the batch size that fits, found by training steps.
        """
        try:
            return work()
        except Exception as error:
            if not batch_size.is_out_of_memory(error):
                raise
        # Outside of the handler, as the error holds on to the tensors of the step that did not fit.
        self.networks.keep(None)
        gc.collect()
        given = self.settled.batch_size
        height, width = self.settled.crop
        beyond = min(given, (self._most_for_memory() or given) + 1)
        steps = self._steps()
        fits = batch_size.largest(lambda size: steps.seconds(size) is not None, 0, beyond)
        text = f"Out of memory in a training step of {given} {self.config.examples} of {height}x{width}"
        if not fits:
            raise OutOfMemoryError(f"{text}, and not even one fits. {batch_size.SMALLER}")
        raise OutOfMemoryError(
            f"{text}; {fits} fit: give --batch-size {fits} (or auto, to have it found) and another --out"
        )

    def _form_under(self, policy: str) -> Any:
        return self.networks.tried(dataclasses.replace(self.settled, precision=policy))

    def _form_by(self, jit: bool) -> Any:
        settled = dataclasses.replace(self.settled, jit=jit)
        return self.networks.another(settled) if jit else self.networks.tried(settled)

    def _batch(self) -> Any:
        """Return the first training batch, with labels for each head of the network."""
        self.feeds.batches.set_epoch(0)
        return self.networks.under(self.settled.precision).feed(self.feeds.batches)[0]

    def _steps(self) -> Steps:
        calls = itertools.count()

        def build() -> Any:
            if next(calls):
                # After a step that did not fit, the network of that step is of no use.
                self.networks.keep(None)
            return self.networks.tried(self.settled)

        return Steps(build, self._batch())

    def _most_for_memory(self) -> int | None:
        return batch_size.most_for_memory(
            self.networks.under(self.settled.precision).network, self.settled.crop
        )
