"""`train`: from a `TrainConfig` to a run folder, through a plain `model.fit`."""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras

from kseg.errors import UsageError, require
from kseg.interrupts import DeferredInterrupt
from kseg.machine.backend import grow_memory
from kseg.machine.report import Machine, examine
from kseg.training import checkpoint, precision, record, start
from kseg.training.averaging import AverageWeights
from kseg.training.batch_size import OutOfMemoryError
from kseg.training.best import BestModel
from kseg.training.callbacks import (
    MONITOR,
    Recorder,
    SetEpoch,
    StopBetweenSteps,
    StopOnNaN,
    TrainingDivergedError,
)
from kseg.training.config import TrainConfig
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
    `resume=True` continues behind the last finished epoch, and ends with the same weights.

    Args:
        config: see `TrainConfig`.
        say: prints one line of progress. None: to stderr.

    Returns:
        What `run.json` holds under `"result"`: `model` (path), `best_epoch`, `epochs`, `val_miou` (None
        without a val split), `val_loss`, `seconds`, `steps`, `images_per_second`.

    Raises:
        UsageError: an argument is wrong, the folder is in use, or the arguments of a resumed run differ.
        DataError: the data is wrong.
        TrainingDivergedError: the loss became NaN or infinite.
        OutOfMemoryError: a step does not fit into memory; it says what fits.
        KeyboardInterrupt: on Ctrl-C, after saying how to go on.
    """
    say = say or to_stderr
    grow_memory()
    run = Path(config.out)
    before = _open_run(run, config)
    if before and before["status"] == "finished":
        say(f"{run} is finished ({before['result']['epochs']} epochs): nothing is left to resume")
        return dict(before["result"])
    machine = examine()
    say(f"runs on {machine.runs_on()}")
    for finding in machine.findings:
        say(f"{finding.level}: {finding.line()}")
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
    say(f"precision {plan.precision}: {plan.precision_reason}")
    say(f"XLA {'on' if plan.jit else 'off'}: {plan.jit_reason}")
    # From here on there is a run folder: every wrong argument was found before.
    info = _start_record(run, asked, plan, before, machine)
    try:
        result = explained(config, plan, lambda: _fit(run, config, plan, fitted, info, say))
    except KeyboardInterrupt:
        _finish_record(run, info, "interrupted")
        done = checkpoint.load(run)
        epochs = len(done[0]["rows"]) if done else 0
        say(f"interrupted after {epochs} finished epochs; go on with: kseg train --resume --out {run}")
        raise
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
    print(line, file=sys.stderr, flush=True)


def _open_run(run: Path, config: TrainConfig) -> dict[str, Any] | None:
    """Return the record of the run to resume, or None for a fresh one; refuse a folder in use."""
    if run.exists() and not run.is_dir():
        raise UsageError(f"Argument `out` must be a folder. '{run}' is a file")
    before = record.read(run)
    if not config.resume:
        if run.is_dir() and any(run.iterdir()):
            hint = "continue it with --resume, or give" if before else "give"
            raise UsageError(f"The run folder '{run}' is not empty: {hint} another --out")
        return None
    if before is None:
        if run.is_dir() and any(run.iterdir()):
            raise UsageError(f"There is nothing to resume in '{run}': it holds files, but no run.json")
        return None
    changed = config.differences(TrainConfig.from_dict(before["arguments"]))
    if changed:
        raise UsageError(
            f"The run in '{run}' was started with other arguments ({'; '.join(changed)}). Resume it with the "
            "arguments it has, or give another --out"
        )
    return before


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
    recorder = Recorder(
        run,
        saver,
        average=average,
        validated=plan.validation is not None,
        patience=config.patience,
        images=plan.images_per_epoch,
        examples=config.examples,
        say=None if terminal else say,
    )
    stored = checkpoint.load(run) if config.resume else None
    if stored is not None:
        meta, arrays = stored
        recorder.restore(meta, checkpoint.restore(fitted.form, arrays))
        say(f"resuming behind epoch {recorder.epochs_done} of {config.epochs}")
    callbacks: list[keras.callbacks.Callback] = [SetEpoch(plan.batches), StopOnNaN(config.loss)]
    callbacks += [average] if average else []
    plain = fitted.is_plain
    if recorder.epochs_done < config.epochs and not recorder.exhausted:
        with DeferredInterrupt() as interrupt:
            if not plain:
                callbacks.append(
                    ValidateNetwork(network, plan.validation, plan.validated_epochs, average, interrupt.check)
                )
            callbacks += [start.Anneal(network, config.epochs), recorder, *_tensorboard(run, config)]
            fitted.form.fit(
                fitted.feed(plan.batches),
                validation_data=plan.validation if plain else None,
                validation_freq=plan.validated_epochs,
                shuffle=False,  # the batches shuffle by seed and epoch
                epochs=config.epochs,
                initial_epoch=recorder.epochs_done,
                callbacks=[*callbacks, StopBetweenSteps(interrupt)],
                verbose=1 if terminal else 0,
            )
    result = _result(run, plan, recorder)
    if config.bn_batches:
        result |= saver.reestimate(recorder.best or recorder.rows[-1], config.bn_batches, say)
    return result


def _tensorboard(run: Path, config: TrainConfig) -> list[keras.callbacks.Callback]:
    wanted = config.tensorboard
    if wanted is None:
        # Keras writes these files with TensorFlow; history.csv is there on every backend.
        wanted = keras.backend.backend() == "tensorflow" and find_spec("tensorboard") is not None
    if not wanted:
        return []
    require("tensorboard", "tensorboard")
    return [keras.callbacks.TensorBoard(log_dir=os.fspath(run / "tensorboard"), write_graph=False)]


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
    }
