"""Callbacks of a run: tell batches and layers of the epoch, validate, keep model and history, report."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kseg.interrupts import DeferredInterrupt
from kseg.layers.protocols import annealing
from kseg.progress import Say
from kseg.tasks import Task
from kseg.training import checkpoint, record
from kseg.training.averaging import AverageWeights
from kseg.training.divergence import StopOnDivergence
from kseg.training.optimizers import learning_rate

Row = checkpoint.Row


class SetEpoch(keras.callbacks.Callback):
    """Tell the batches which epoch begins, so that a resumed run sees the same images."""

    def __init__(self, batches: Any) -> None:
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.batches.set_epoch(epoch)


class Anneal(keras.callbacks.Callback):
    """Tell the layers that anneal (`kseg.layers.protocols.Anneals`) how far the training is.

    Args:
        network: the network whose layers are told; a number from 0 (first epoch) to 1 (last).
        epochs: epochs of the whole run.
    """

    def __init__(self, network: keras.Model, epochs: int) -> None:
        super().__init__()
        self.layers = annealing(network)
        self.epochs = epochs

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        for layer in self.layers:
            layer.anneal(min(1.0, epoch / max(1, self.epochs - 1)))


class PlainNames(keras.callbacks.Callback):
    """Call scores by their own names: Keras puts the name of the output before, where outputs have names.

    It must stand before the callbacks that read scores.

    Args:
        form: what is fitted.
    """

    def __init__(self, form: keras.Model) -> None:
        super().__init__()
        self.outputs = tuple(form.output) if isinstance(form.output, dict) else ()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        stages = ("", "val_")
        # The loss of an output `box_class` does not belong to an output `box`.
        losses = {f"{stage}{output}_loss" for stage, output in itertools.product(stages, self.outputs)}
        for stage, output in itertools.product(stages, self.outputs):
            start = f"{stage}{output}_"
            for name in [name for name in logs if name.startswith(start) and name not in losses]:
                logs[stage + name.removeprefix(start)] = logs.pop(name)


class ValidateNetwork(keras.callbacks.Callback):
    """Score the network on whole images while another form of it is trained.

    It must stand before the callbacks that read `val_loss` and the other scores with `val_`.

    Args:
        score: returns `loss` and the other scores.
        epochs: numbers (from 1) of the epochs that are validated.
        average: averaged weights that the network is scored with.
        check: called after each scoring; raises when the user has pressed Ctrl-C.
    """

    def __init__(
        self,
        score: Callable[[], Mapping[str, Any]],
        epochs: list[int],
        average: AverageWeights | None,
        check: Callable[[], None],
    ) -> None:
        super().__init__()
        self.score, self.epochs = score, epochs
        self.average, self.check = average, check

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        if epoch + 1 not in self.epochs:
            return
        if self.average is not None:
            self.average.on_test_begin()
        scores = self.score()
        if self.average is not None:
            self.average.on_test_end()
        self.check()
        logs.update({f"val_{name}": value for name, value in scores.items()})


class Recorder(keras.callbacks.Callback):
    """After each epoch: history, best model, early stop, checkpoint; in this order, each file whole.

    A run killed between two of these files repeats the epoch on `--resume`, and writes them the same.

    Args:
        run: the run folder.
        save_model: called with the row of the epoch when it is the best so far.
        task: its headline, on the held-out images, says which epoch is the best.
        average: the averaged weights, whose state goes into the checkpoint.
        validated: whether epochs are validated; if not, the latest model counts as the best.
        patience: stop after so many epochs without a better score; None: never.
        images: training examples of one epoch.
        examples: what they are called: images, crops or patches.
        watch: stands before this callback; an epoch that it calls far is never the best. None: none is.
        say: prints one line.
    """

    def __init__(
        self,
        run: Path,
        save_model: Callable[[Row], None],
        *,
        task: Task,
        average: AverageWeights | None,
        validated: bool,
        patience: int | None,
        images: int,
        examples: str = "images",
        watch: StopOnDivergence | None = None,
        say: Say | None,
    ) -> None:
        super().__init__()
        self.run = run
        self.save_model = save_model
        self.task = task
        self.monitor = f"val_{task.headline}"
        self.average = average
        self.validated = validated
        self.patience = patience
        self.images = images
        self.examples = examples
        self.watch = watch
        self.say = say
        self.rows: list[Row] = []
        self.best: Row | None = None
        self._began = 0.0
        self._steps: list[float] = []

    @property
    def epochs_done(self) -> int:
        """Number of finished epochs."""
        return len(self.rows)

    @property
    def exhausted(self) -> bool:
        """Whether `patience` epochs went by without a better score, counted at validated epochs."""
        if self.patience is None or self.best is None or not self.validated:
            return False
        latest = max(int(row["epoch"]) for row in self.rows if self.monitor in row)
        return latest - int(self.best["epoch"]) >= self.patience

    def meta(self) -> dict[str, Any]:
        """Return what the checkpoint keeps of this callback, JSON-ready."""
        meta = {"rows": self.rows, "best": self.best, "step": self.average.step if self.average else 0}
        return meta if self.watch is None else {**meta, "divergence": self.watch.state()}

    def restore(self, meta: checkpoint.Meta, average: list[np.ndarray]) -> None:
        """Continue from a checkpoint's `meta()` and averaged weights."""
        self.rows = list(meta.rows)
        self.best = meta.best
        if self.average is not None:
            self.average.restore(meta.step, average)
        # Checkpoints of 0.1 do not have it.
        if self.watch is not None and meta.divergence is not None:
            self.watch.restore(meta.divergence)
        record.write_history(self.run, self.rows)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._began = time.perf_counter()
        self._steps = []

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._steps.append(time.perf_counter())

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        row = self._row(epoch, logs or {})
        self.rows.append(row)
        improved = self._is_best(row)
        if improved:
            self.best = row
            self.save_model(row)
        if self.exhausted:
            self.model.stop_training = True
        checkpoint.save(self.run, self.model, self.average.state() if self.average else [], self.meta())
        record.write_history(self.run, self.rows)
        if self.say is not None:
            self.say(self._line(row, improved))

    def _row(self, epoch: int, logs: Mapping[str, Any]) -> Row:
        seconds = time.perf_counter() - self._began
        before = float(self.rows[-1]["total_seconds"]) if self.rows else 0.0
        row: Row = {"epoch": epoch + 1}
        for name, value in logs.items():
            number = float(np.asarray(value))
            # A score that is undefined (no labelled pixel seen) is left empty, as JSON has no NaN.
            if math.isfinite(number):
                row[name] = number
        row["learning_rate"] = learning_rate(self.model.optimizer)
        row["images_per_second"] = round(self._speed(), 2)
        row["seconds"] = round(seconds, 3)
        row["total_seconds"] = round(before + seconds, 3)
        return row

    def _speed(self) -> float:
        """Return examples per second of training, validation and the first step (tracing) left out."""
        steps = self._steps
        if len(steps) < 2:
            return self.images / max(time.perf_counter() - self._began, 1e-9)
        share = (len(steps) - 1) / len(steps)
        return self.images * share / max(steps[-1] - steps[0], 1e-9)

    def _is_best(self, row: Row) -> bool:
        if self.watch is not None and self.watch.far:
            return False
        if not self.validated:
            return True
        if self.monitor not in row:
            return False
        return self.best is None or row[self.monitor] > self.best[self.monitor]

    def _line(self, row: Row, improved: bool) -> str:
        epochs = (self.params or {}).get("epochs", "?")
        parts = [f"epoch {row['epoch']}/{epochs}"]
        named = ("loss", self.task.headline, "val_loss", self.monitor)
        scores = {name: row[name] for name in named if name in row}
        for name, value in in_percent(scores, self.task).items():
            parts.append(f"{name[:-2]} {value:.2f} %" if name.endswith("%") else f"{name} {value:.4f}")
        if improved and self.validated:
            parts[-1] += " (best)"
        parts.append(f"lr {row['learning_rate']:.2e}")
        parts.append(f"{row['images_per_second']:.1f} {self.examples}/s")
        parts.append(f"{row['seconds']:.1f} s")
        return "  ".join(parts)


class StopBetweenSteps(keras.callbacks.Callback):
    """Makes a Ctrl-C that `interrupt` has noted take effect at the end of a step.

    Args:
        interrupt: entered around `model.fit`; inside a step of TensorFlow Ctrl-C could crash the process.
    """

    def __init__(self, interrupt: DeferredInterrupt) -> None:
        super().__init__()
        self._interrupt = interrupt

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._interrupt.check()

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self._interrupt.check()


class PercentBar(keras.callbacks.ProgbarLogger):
    """Keras' progress bar with scores in per cent, as every command of kseg prints them.

    Args:
        task: whose headline is a share.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self._task = task

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        super().on_train_batch_end(batch, in_percent(logs or {}, self._task))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        super().on_epoch_end(epoch, in_percent(logs or {}, self._task))


def in_percent(logs: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """Return `logs` with the task's headline (`miou` in 0..1) as `mIoU %` in 0..100, for people."""
    shown = {}
    for name, value in logs.items():
        if name.endswith(task.headline):
            shown[f"{name.removesuffix(task.headline)}{task.label} %"] = 100 * value
        else:
            shown[name] = value
    return shown
