"""Writing `model.keras`: the averaged weights in a float32 network of any input size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
from keras import ops

from kseg import saving
from kseg.layers.policy import dtype_policy
from kseg.progress import Say
from kseg.training import record
from kseg.training.averaging import AverageWeights
from kseg.training.batch_norm_statistics import reestimate_batch_norm
from kseg.training.compiled import Compiled
from kseg.training.config import TrainConfig
from kseg.training.feeds import Feeds
from kseg.training.settled import Ground, Settled
from kseg.training.validation import score_once


class BestModel:
    """Save the network as it is now, with its spec: architecture, data and recipe.

    The file holds a float32 twin of the trained network, so that a model trained in mixed precision
    is predicted with and exported in pure float32.

    Args:
        run: the run folder.
        config: arguments of the run.
        ground: what the network is built from.
        settled: the values of the run.
        info: `run.json` so far (versions, machine).
        compiled: the network in training, and its form.
        average: its averaged weights, or None to save the weights as trained.
    """

    def __init__(
        self,
        run: Path,
        config: TrainConfig,
        ground: Ground,
        settled: Settled,
        info: dict[str, Any],
        compiled: Compiled,
        average: AverageWeights | None,
    ) -> None:
        self.path = run / record.MODEL
        self.config = config
        self.ground = ground
        self.settled = settled
        self.info = info
        self.compiled = compiled
        self.average = average
        self._twin: keras.Model | None = None

    def __call__(self, row: dict[str, float | int]) -> None:
        """Save after the epoch that `row` describes."""
        if self._twin is None:
            with dtype_policy("float32"):
                self._twin = self.ground.build()
        for target, trained in zip(self._twin.weights, self.compiled.network.weights, strict=True):
            target.assign(ops.copy(trained.value))
        if self.average is not None:
            self.average.apply_to(self._twin)
        saving.save(self._twin, self.path, self._spec(row))

    def reestimate(self, row: dict[str, float | int], feeds: Feeds, count: int, say: Say) -> dict[str, Any]:
        """Measure the saved network's batch-normalisation statistics over `count` batches; save it again.

        Args:
            row: of the epoch that was saved.
            feeds: the batches of the run.
            count: training batches.
            say: prints one line.

        Returns:
            `val_loss` (where no other form is needed for it) and the score of the network as saved now;
            nothing without a validation split.
        """
        network = saving.load(self.path)
        # From the same batches whether or not the run was interrupted on its way here.
        feeds.batches.set_epoch(self.config.epochs)
        reestimate_batch_norm(network, feeds.batches, count=count)
        scores: dict[str, Any] = {}
        if feeds.validation is not None:
            inside = self.compiled.losses_inside
            found = score_once(network, inside, self.ground, self.settled, feeds.validation)
            scores = {f"val_{name}": value for name, value in found.items()}
            task = self.ground.task
            score = 100 * scores[f"val_{task.headline}"]
            say(f"batch normalisation over {count} batches: val {task.label} {score:.2f} %")
        saving.save(network, self.path, self._spec({**row, **scores}))
        return scores

    def _spec(self, row: dict[str, float | int]) -> Any:
        # The full paths are in run.json; the model file goes to other machines.
        arguments = record.public_arguments(self.config)
        resolved = self.settled.to_dict()
        recipe = {
            "arguments": arguments,
            "resolved": {
                key: value for key, value in resolved.items() if key not in ("architecture", "arguments")
            },
            "seed": self.config.seed,
            "date": record.now(),
            "versions": self.info["versions"],
            "machine": self.info["machine"],
            "result": dict(row),
        }
        data = {**self.settled.data_record, "source": arguments["data"]}
        return self.settled.spec.replace(data=data, recipe=recipe)
