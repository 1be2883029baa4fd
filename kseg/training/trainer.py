"""`train`: from a `TrainConfig` to a run folder, through a plain `model.fit`."""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from kseg.data.counting.counts import ClassCounts, id_counts
from kseg.errors import UsageError
from kseg.interrupts import DeferredInterrupt, Interrupted
from kseg.locks import FILE as LOCK
from kseg.locks import FolderLock, is_unused
from kseg.machine.backend import grow_memory
from kseg.machine.report import Machine, examine
from kseg.metrics import chance_miou, near_chance
from kseg.text import printable
from kseg.training import checkpoint, precision, record, start, tracking
from kseg.training.averaging import AverageWeights
from kseg.training.batch_size import OutOfMemoryError
from kseg.training.best import BestModel
from kseg.training.callbacks import MONITOR, PercentBar, Recorder, SetEpoch, StopBetweenSteps
from kseg.training.config import TrainConfig
from kseg.training.divergence import StopOnDivergence, TrainingDivergedError
from kseg.training.fitted import Fitted, ValidateNetwork, compiled
from kseg.training.plan import Plan
from kseg.training.reestimate import check_reestimable
from kseg.training.settle import explained, settle

Say = Callable[[str], None]


def train(config: TrainConfig, say: Say | None = None) -> dict[str, Any]:
    """Train a model and write the run folder `config.out`.

    The folder gets `model.keras` (best validation mIoU, averaged weights, float32, any input size,
    spec inside), `history.csv`, `run.json`, `checkpoint/` and, where TensorBoard is installed,
    `tensorboard/`. Every file is written whole. After a kill at any time the same call with
    `resume=True` continues behind the last finished epoch, and ends with the same weights. The folder is
    locked (`kseg.locks`): a second training in it is refused while this one lives.

    Args:
        config: see `TrainConfig`.
        say: prints one line of progress. None: to stderr.

    Returns:
        What `run.json` holds under `"result"`: `model` (path), `best_epoch`, `epochs`, `val_miou` (None
        without a val split), `val_loss`, `seconds`, `steps`, `images_per_second`; and with a val split
        `chance_miou`, what can be had without looking at an image, and `beats_chance`. Scores are
        in 0..1.

    Raises:
        UsageError: an argument is wrong, the folder is in use, or the arguments of a resumed run differ.
        DataError: the data is wrong.
        TrainingDivergedError: the loss became NaN or infinite, or left far above its start and stayed there;
            no network of such an epoch is kept.
        OutOfMemoryError: a step does not fit into memory; it says what fits.
        Interrupted: on Ctrl-C; its message says how to go on.
    """
    lock = FolderLock(config.out)
    try:
        return _train(config, say or to_stderr, lock)
    finally:
        lock.drop()


def _train(config: TrainConfig, say: Say, lock: FolderLock) -> dict[str, Any]:
    grow_memory()
    run = Path(config.out)
    before = _open_run(run, config, lock)
    if before and before["status"] == "finished":
        say(f"{run} is finished ({before['result']['epochs']} epochs): nothing is left to resume")
        return dict(before["result"])
    tracking.wanted(config)
    asked = config
    config, plan = settle(config, before, say)
    keras.utils.set_random_seed(config.seed)
    with precision.dtype_policy(plan.precision):
        fitted = compiled(config, plan)
    if config.bn_batches:
        check_reestimable(fitted.network)
    # A run that was killed in its first epoch has a record, but no weights to go on with.
    if before is None or not (run / checkpoint.FILE).is_file():
        copied = start.init_from(fitted.network, config.init_from, say) if config.init_from else []
        start.adapt(fitted.network, plan.batches, say, known=copied)
    machine = examine()
    say(f"runs on {machine.runs_on()}")
    for finding in machine.findings:
        say(f"{finding.level}: {finding.line()}")
    say(f"precision {plan.precision}: {plan.precision_reason}")
    say(f"XLA {'on' if plan.jit else 'off'}: {plan.jit_reason}")
    # From here on there is a run folder: every wrong argument was found before.
    if not _claim(run, lock, before):
        say(f"{run} cannot be locked on this file system: start no second training in it")
    info = _start_record(run, asked, plan, before, machine)
    try:
        result = explained(config, plan, lambda: _fit(run, config, plan, fitted, info, say))
    except KeyboardInterrupt as interrupt:
        _finish_record(run, info, "interrupted")
        done = checkpoint.load(run)
        epochs = len(done[0].rows) if done else 0
        raise Interrupted(
            f"interrupted after {epochs} finished epochs; go on with: kseg train --resume --out {run}"
        ) from interrupt
    except TrainingDivergedError:
        _finish_record(run, info, "diverged")
        raise
    except OutOfMemoryError:
        _finish_record(run, info, "out of memory")
        raise
    _finish_record(run, info, "finished", result)
    return result


def to_stderr(line: str) -> None:
    """Print one line of progress where it does not mix with results."""
    print(printable(line), file=sys.stderr, flush=True)


def _open_run(run: Path, config: TrainConfig, lock: FolderLock) -> dict[str, Any] | None:
    """Return the record of the run to resume, or None for a fresh one; refuse a folder in use."""
    if run.exists() and not run.is_dir():
        raise UsageError(f"Argument `out` must be a folder. '{run}' is a file")
    before = record.read(run, to_resume=config.resume)
    # Nothing is locked, that is written, in a folder that is not a run's or whose run is over.
    if before.get("status") != "finished" if before else (run / LOCK).is_file():
        lock.take()
    if not config.resume:
        if run.is_dir() and not is_unused(run):
            hint = "continue it with --resume, or give" if before else "give"
            raise UsageError(f"The run folder '{run}' is not empty: {hint} another --out")
        return None
    if before is None:
        if run.is_dir() and not is_unused(run):
            raise UsageError(f"There is nothing to resume in '{run}': it holds files, but no run.json")
        return None
    changed = config.differences(TrainConfig.from_dict(before["arguments"]))
    if changed:
        raise UsageError(
            f"The run in '{run}' was started with other arguments ({'; '.join(changed)}). Resume it with the "
            "arguments it has, or give another --out"
        )
    return before


def _claim(run: Path, lock: FolderLock, before: dict[str, Any] | None) -> bool:
    """Make the run folder and lock it; False where the file system has no locks."""
    run.mkdir(parents=True, exist_ok=True)
    locked = lock.take()
    if before is None and not is_unused(run):
        # Another training began and ended while this one was being planned.
        raise UsageError(f"The run folder '{run}' is no longer empty: give another --out")
    return locked


def _start_record(
    run: Path, config: TrainConfig, plan: Plan, before: dict[str, Any] | None, machine: Machine
) -> dict[str, Any]:
    info: dict[str, Any] = {
        "status": "running",
        "started": record.now(),
        "arguments": config.to_dict(),
        "resolved": plan.to_dict(),
        "data": plan.data_record,
        "versions": record.versions(),
        "machine": record.machine(),
        "doctor": machine.to_dict(),
        "resumed": [],
    }
    if before is not None:
        info["started"] = before["started"]
        info["tracking"] = before.get("tracking", {})
        info["resumed"] = [*before.get("resumed", []), record.now()]
    record.write(run, info)
    return info


def _finish_record(
    run: Path, info: dict[str, Any], status: str, result: dict[str, Any] | None = None
) -> None:
    info["status"] = status
    info["ended"] = record.now()
    if result is not None:
        info["result"] = result
    record.write(run, info)


def _fit(
    run: Path, config: TrainConfig, plan: Plan, fitted: Fitted, info: dict[str, Any], say: Say
) -> dict[str, Any]:
    network = fitted.network
    average = AverageWeights(plan.ema, plan.average_every, network) if plan.ema else None
    saver = BestModel(run, config, plan, info, network, average)
    terminal = sys.stdout.isatty()
    watch = StopOnDivergence(config.loss)
    recorder = Recorder(
        run,
        saver,
        average=average,
        validated=plan.validation is not None,
        patience=config.patience,
        images=plan.images_per_epoch,
        examples=config.examples,
        watch=watch,
        say=None if terminal else say,
    )
    stored = checkpoint.load(run) if config.resume else None
    if stored is not None:
        meta, arrays = stored
        recorder.restore(meta, checkpoint.restore(fitted.form, arrays))
        say(f"resuming behind epoch {recorder.epochs_done} of {config.epochs}")
    callbacks: list[keras.callbacks.Callback] = [SetEpoch(plan.batches), watch]
    callbacks += [average] if average else []
    plain = fitted.is_plain
    if recorder.epochs_done < config.epochs and not recorder.exhausted:
        done = recorder.epochs_done * plan.steps_per_epoch
        ids = info.setdefault("tracking", {})
        tracked = tracking.tracked(config, run, done, ids, lambda: record.write(run, info))
        with tracked as trackers, DeferredInterrupt() as interrupt:
            if not plain:
                callbacks.append(
                    ValidateNetwork(network, plan.validation, plan.validated_epochs, average, interrupt.check)
                )
            callbacks += [start.Anneal(network, config.epochs), recorder]
            fitted.form.fit(
                fitted.feed(plan.batches),
                validation_data=plan.validation if plain else None,
                validation_freq=plan.validated_epochs,
                shuffle=False,  # the batches shuffle by seed and epoch
                epochs=config.epochs,
                initial_epoch=recorder.epochs_done,
                callbacks=[
                    *callbacks,
                    *trackers,
                    *([PercentBar()] if terminal else []),
                    StopBetweenSteps(interrupt),
                ],
                verbose=1 if terminal else 0,
            )
    watch.judge()
    result = _result(run, plan, recorder)
    if config.bn_batches:
        result |= saver.reestimate(recorder.best or recorder.rows[-1], config.bn_batches, say)
    return result


def _result(run: Path, plan: Plan, recorder: Recorder) -> dict[str, Any]:
    last = recorder.rows[-1]
    best = recorder.best or last
    return {
        "model": os.fspath(run / record.MODEL),
        "best_epoch": best["epoch"],
        "epochs": recorder.epochs_done,
        MONITOR: best.get(MONITOR),
        "val_loss": best.get("val_loss"),
        "seconds": last["total_seconds"],
        "steps": recorder.epochs_done * plan.steps_per_epoch,
        "images_per_second": statistics.median(float(row["images_per_second"]) for row in recorder.rows),
        **_chance(plan, best.get(MONITOR)),
    }


def _chance(plan: Plan, score: float | None) -> dict[str, Any]:
    """Return what a guess scores on the validation truth, and whether `score` is more."""
    if plan.validation is None or score is None:
        return {}
    counts = ClassCounts(plan.spec.num_classes, plan.spec.ignore_id)
    for index in range(len(plan.validation)):
        counts.add(id_counts(plan.validation[index][1]))
    if not counts.valid:
        return {}
    chance = chance_miou(counts.pixels)
    return {
        "chance_miou": chance,
        "beats_chance": not near_chance(score, chance),
    }
