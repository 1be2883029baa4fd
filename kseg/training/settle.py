"""What a run settles by trying: precision, compilation and, where asked for, the batch size."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from kseg.models.shapes import shapes_only
from kseg.training import batch_size, precision
from kseg.training.batch_size import OutOfMemoryError, Steps
from kseg.training.config import TrainConfig
from kseg.training.fitted import compiled, labelled
from kseg.training.plan import Plan, make_plan

Say = Callable[[str], None]
T = TypeVar("T")


def settle(config: TrainConfig, before: Mapping[str, Any] | None, say: Say) -> tuple[TrainConfig, Plan]:
    """Return the arguments with a number for the batch size, and the whole plan of the run.

    A resumed run keeps what it found, as timing could now choose otherwise.

    Args:
        config: the arguments.
        before: `run.json` of the run to resume.
        say: prints one line.

    Raises:
        UsageError, DataError: from the plan.
        OutOfMemoryError: if the steps that are tried do not fit into memory.
    """
    if before is not None:
        resolved = before["resolved"]
        if config.batch_size == batch_size.AUTO:
            config = dataclasses.replace(config, batch_size=resolved["batch_size"])
        plan = make_plan(config, before, say)
        plan.precision, plan.precision_reason = resolved["precision"], resolved["precision_reason"]
        # Records of kseg 0.1 do not have the others.
        plan.jit = resolved.get("jit_compile", precision.jit_compile())
        plan.jit_reason = resolved.get("jit_reason", "")
        plan.batch_reason = resolved.get("batch_reason", "")
        return config, plan
    searched = config.batch_size == batch_size.AUTO
    if searched:
        config = dataclasses.replace(config, batch_size=batch_size.START)
    plan = make_plan(config, None, say)
    _settle_precision(config, plan)
    _settle_compilation(config, plan)
    if not searched:
        return config, plan
    found = find_batch_size(config, plan)
    settled = plan
    config = dataclasses.replace(config, batch_size=found.size)
    # The number of steps, and what follows from it, are those of this batch size.
    plan = make_plan(config, None, lambda line: None)
    for name in ("precision", "precision_reason", "jit", "jit_reason"):
        setattr(plan, name, getattr(settled, name))
    plan.batch_reason = found.reason
    say(f"batch size {found.size}: {found.reason}")
    return config, plan


def first_batch(plan: Plan) -> Any:
    """Return the first training batch, with labels for each head of the network."""
    plan.batches.set_epoch(0)
    with shapes_only():
        return labelled(plan.build(), plan.batches)[0]


def _settle_precision(config: TrainConfig, plan: Plan) -> None:
    if config.precision != "auto":
        plan.precision, plan.precision_reason = config.precision, "as asked"
    elif plan.total_steps < precision.LEAST_STEPS:
        plan.precision_reason = f"a run of {plan.total_steps} steps is too short to time others"
    else:
        choice = explained(
            config, plan, lambda: precision.choose(lambda: compiled(config, plan).form, first_batch(plan))
        )
        plan.precision, plan.precision_reason = choice.policy, choice.reason


def _settle_compilation(config: TrainConfig, plan: Plan) -> None:
    known = precision.compilation()
    if config.xla != "auto":
        plan.jit, plan.jit_reason = config.xla == "on", "as asked"
    elif known is not None:
        plan.jit, plan.jit_reason = known.jit, known.reason
    elif plan.total_steps < precision.LEAST_STEPS:
        plan.jit, plan.jit_reason = False, f"a run of {plan.total_steps} steps is too short to time XLA"
    else:
        found = explained(config, plan, lambda: _timed_compilation(config, plan))
        plan.jit, plan.jit_reason = found.jit, found.reason


def _timed_compilation(config: TrainConfig, plan: Plan) -> precision.Compilation:
    def build(jit: bool) -> Any:
        with precision.dtype_policy(plan.precision):
            return compiled(config, dataclasses.replace(plan, jit=jit)).form

    return precision.choose_compilation(build, first_batch(plan))


def _steps(config: TrainConfig, plan: Plan) -> Steps:
    def build() -> Any:
        with precision.dtype_policy(plan.precision):
            return compiled(config, plan).form

    return Steps(build, first_batch(plan))


def find_batch_size(config: TrainConfig, plan: Plan) -> batch_size.Found:
    """Return the batch size for `--batch-size auto`, found by training steps of the run's own network.

    At most 256 images, an eighth of an epoch, and what the CPU's free memory is estimated to hold are tried.
    """
    epoch = plan.steps_per_epoch * config.images_per_step
    most, bound = batch_size.MOST, ""
    if epoch // batch_size.LEAST_STEPS_PER_EPOCH < most:
        most = max(1, epoch // batch_size.LEAST_STEPS_PER_EPOCH)
        bound = f"an epoch of {epoch} {config.examples} should have {batch_size.LEAST_STEPS_PER_EPOCH} steps"
    fitting = _most_for_memory(plan)
    if fitting is not None and fitting < most:
        most, bound = fitting, "more may not fit into the free memory"
    return batch_size.find(_steps(config, plan).seconds, most, bound)


def _most_for_memory(plan: Plan) -> int | None:
    with shapes_only():
        return batch_size.most_for_memory(plan.build(), plan.crop)


def explained(config: TrainConfig, plan: Plan, work: Callable[[], T]) -> T:
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
    gc.collect()
    given = config.images_per_step
    height, width = plan.crop
    steps = _steps(config, plan)
    beyond = min(given, (_most_for_memory(plan) or given) + 1)
    fits = batch_size.largest(lambda size: steps.seconds(size) is not None, 0, beyond)
    text = f"Out of memory in a training step of {given} {config.examples} of {height}x{width}"
    if not fits:
        raise OutOfMemoryError(f"{text}, and not even one fits. {batch_size.SMALLER}")
    raise OutOfMemoryError(
        f"{text}; {fits} fit: give --batch-size {fits} (or auto, to have it found) and another --out"
    )
