"""`train`: from a `TrainConfig` to a run folder, through a plain `model.fit`."""

from __future__ import annotations

import os
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from kseg.data.batches.feeding import fed
from kseg.errors import UsageError
from kseg.interrupts import DeferredInterrupt, Interrupted
from kseg.locks import FILE as LOCK
from kseg.locks import FolderLock, is_unused
from kseg.machine.backend import grow_memory
from kseg.machine.report import Machine, examine
from kseg.progress import Say, to_stderr
from kseg.training import checkpoint, record, tracking
from kseg.training.averaging import AverageWeights
from kseg.training.batch_norm_statistics import check_reestimable
from kseg.training.batch_size import OutOfMemoryError
from kseg.training.best_model import BestModel
from kseg.training.callbacks import (
    Anneal,
    PercentBar,
    PlainNames,
    Recorder,
    SetEpoch,
    StopBetweenSteps,
    ValidateNetwork,
)
from kseg.training.compiled import Compiled, Networks
from kseg.training.config import TrainConfig
from kseg.training.divergence import StopOnDivergence, TrainingDivergedError
from kseg.training.feeds import Feeds
from kseg.training.multipliers import encoder_factors
from kseg.training.settled import Ground, Settled, look
from kseg.training.starting_weights import begin
from kseg.training.trials import Trial, settle
from kseg.training.validation import scoring


@dataclass(frozen=True)
class _Job:
    """All parts of one run, made in this order."""

    run: Path
    config: TrainConfig
    ground: Ground
    settled: Settled
    feeds: Feeds
    compiled: Compiled
    trackers: list[str]
    say: Say


def train(config: TrainConfig, say: Say | None = None) -> dict[str, Any]:
    """Train a model and write the run folder `config.out`.

    The folder gets `model.keras` (best validation score, averaged weights, float32, any input size,
    spec inside), `history.csv`, `run.json`, `checkpoint/` and, where TensorBoard is installed,
    `tensorboard/`. Every file is written whole. After a kill at any time the same call with
    `resume=True` continues behind the last finished epoch, and ends with the same weights. The folder is
    locked (`kseg.locks`): a second training in it is refused while this one lives.

    Args:
        config: see `TrainConfig`.
        say: prints one line of progress. None: to stderr.

    Returns:
        What `run.json` holds under `"result"`: `model` (path), `best_epoch`, `epochs`, the score
        (`val_miou`; None without a val split), `val_loss`, `seconds`, `steps`, `images_per_second`; and for a
        semantic network with a val split `chance_miou`, what can be had without looking at an image, and
        `beats_chance`. Scores are in 0..1.

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
    trackers = tracking.wanted(config.track, config.tensorboard)
    ground = look(config, before, say)
    networks = Networks(config, ground)
    settled, feeds = settle(config, ground, networks, before, say)
    compiled = networks.chosen(settled)
    if config.bn_batches:
        check_reestimable(compiled.network)
    # A run that was killed in its first epoch has a record, but no weights to go on with.
    if before is None or not (run / checkpoint.FILE).is_file():
        begin(compiled.network, config.init_from, feeds.batches, say)
    machine = examine()
    say(f"runs on {machine.runs_on()}")
    for finding in machine.findings:
        say(f"{finding.level}: {finding.line()}")
    say(f"precision {settled.precision}: {settled.precision_reason}")
    say(f"XLA {'on' if settled.jit else 'off'}: {settled.jit_reason}")
    if encoder_factors(compiled.form, settled.encoder_rate):
        say(
            f"encoder at {settled.encoder_rate:g} of the learning rate, as it starts pretrained "
            f"({config.weights}); other factors: --lr-multipliers"
        )
    # From here on there is a run folder: every wrong argument was found before.
    if not _claim(run, lock, before):
        say(f"{run} cannot be locked on this file system: start no second training in it")
    info = _start_record(run, config, settled, before, machine)
    job = _Job(run, config, ground, settled, feeds, compiled, trackers, say)
    try:
        trial = Trial(config, networks, settled, feeds)
        result = trial.explained(lambda: _fit(job, info))
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
    run: Path, config: TrainConfig, settled: Settled, before: dict[str, Any] | None, machine: Machine
) -> dict[str, Any]:
    info: dict[str, Any] = {
        "status": "running",
        "started": record.now(),
        "arguments": config.to_dict(),
        "resolved": settled.to_dict(),
        "data": settled.data_record,
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


def _fit(job: _Job, info: dict[str, Any]) -> dict[str, Any]:
    config, settled, feeds, network = job.config, job.settled, job.feeds, job.compiled.network
    average = AverageWeights(settled.ema, settled.average_every, network) if settled.ema else None
    saver = BestModel(job.run, config, job.ground, settled, info, job.compiled, average)
    terminal = sys.stdout.isatty()
    watch = StopOnDivergence(config.loss)
    recorder = _recorder(job, saver, average, watch, None if terminal else job.say)
    callbacks: list[keras.callbacks.Callback] = [SetEpoch(feeds.batches), watch]
    callbacks += [average] if average else []
    plain = job.compiled.is_plain
    if recorder.epochs_done < config.epochs and not recorder.exhausted:
        tracked = tracking.tracked(
            job.trackers,
            record.public_arguments(config),
            job.run,
            recorder.epochs_done * settled.steps_per_epoch,
            info.setdefault("tracking", {}),
            lambda: record.write(job.run, info),
        )
        with tracked as trackers, DeferredInterrupt() as interrupt:
            callbacks.append(PlainNames(job.compiled.form))
            if not plain and feeds.validation is not None:
                epochs = settled.validated_epochs
                score = scoring(job.compiled, job.ground, settled, feeds.validation)
                callbacks.append(ValidateNetwork(score, epochs, average, interrupt.check))
            callbacks += [Anneal(network, config.epochs), recorder]
            job.compiled.form.fit(
                fed(job.compiled.feed(feeds.batches)),
                validation_data=fed(feeds.validation) if plain and feeds.validation else None,
                validation_freq=settled.validated_epochs,
                shuffle=False,  # the batches shuffle by seed and epoch
                epochs=config.epochs,
                initial_epoch=recorder.epochs_done,
                callbacks=[
                    *callbacks,
                    *trackers,
                    *([PercentBar(job.ground.task)] if terminal else []),
                    StopBetweenSteps(interrupt),
                ],
                verbose=1 if terminal else 0,
            )
    watch.judge()
    result = _result(job, recorder)
    if config.bn_batches:
        best = recorder.best or recorder.rows[-1]
        result |= saver.reestimate(best, feeds, config.bn_batches, job.say)
    return result


def _recorder(
    job: _Job, saver: BestModel, average: AverageWeights | None, watch: StopOnDivergence, say: Say | None
) -> Recorder:
    """Return the recorder of a run; of one that is resumed, with what its checkpoint holds."""
    config = job.config
    recorder = Recorder(
        job.run,
        saver,
        task=job.ground.task,
        average=average,
        validated=job.feeds.validation is not None,
        patience=config.patience,
        images=job.settled.images_per_epoch,
        examples=config.examples,
        watch=watch,
        say=say,
    )
    stored = checkpoint.load(job.run) if config.resume else None
    if stored is not None:
        meta, arrays = stored
        recorder.restore(meta, checkpoint.restore(job.compiled.form, arrays))
        job.say(f"resuming behind epoch {recorder.epochs_done} of {config.epochs}")
    return recorder


def _result(job: _Job, recorder: Recorder) -> dict[str, Any]:
    last = recorder.rows[-1]
    best = recorder.best or last
    monitor = f"val_{job.ground.task.headline}"
    score = best.get(monitor)
    return {
        "model": os.fspath(job.run / record.MODEL),
        "best_epoch": best["epoch"],
        "epochs": recorder.epochs_done,
        monitor: score,
        "val_loss": best.get("val_loss"),
        "seconds": last["total_seconds"],
        "steps": recorder.epochs_done * job.settled.steps_per_epoch,
        "images_per_second": statistics.median(float(row["images_per_second"]) for row in recorder.rows),
        **({} if score is None else job.ground.goal.chance(job.settled.spec, job.feeds.validation, score)),
    }
