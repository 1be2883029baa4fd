"""Where the curves of a run go besides its folder: TensorBoard, Weights & Biases, MLflow.

Each by its own Keras callback; `history.csv` is written in any case.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kseg.errors import UsageError, require

if TYPE_CHECKING:
    import keras

PROJECT = "kseg"
# Name of a tracker -> module that must be there; the extra that brings it has the tracker's name.
MODULES = {"tensorboard": "tensorboard", "wandb": "wandb.integration.keras", "mlflow": "mlflow.keras"}
TRACKERS = tuple(MODULES)

Callbacks = list["keras.callbacks.Callback"]
Opened = tuple["keras.callbacks.Callback", str | None]


def wanted(track: Sequence[str], tensorboard: bool | None) -> list[str]:
    """Return the trackers of a run; TensorBoard by itself where it is installed.

    Args:
        track: names that were asked for.
        tensorboard: whether TensorBoard was; None: where it is installed.

    Raises:
        MissingExtraError: if one that was asked for is not installed.
    """
    import keras

    names = list(dict.fromkeys(track))
    if tensorboard:
        names.append("tensorboard")
    for name in names:
        require(MODULES[name], name)
    # Keras writes TensorBoard's files with TensorFlow; history.csv is there on every backend.
    by_itself = keras.backend.backend() == "tensorflow" and find_spec("tensorboard") is not None
    if tensorboard is None and by_itself and "tensorboard" not in names:
        names.append("tensorboard")
    return list(dict.fromkeys(names))


@contextlib.contextmanager
def tracked(
    names: Sequence[str],
    arguments: Mapping[str, Any],
    run: Path,
    steps_done: int,
    ids: dict[str, str],
    keep: Callable[[], None],
) -> Iterator[Callbacks]:
    """Give the callbacks of the trackers that a run wants; open them before, close them after.

    Args:
        names: of the trackers, as `wanted` gives them.
        arguments: of the run, to be sent: without local paths, as in model files.
        run: the run folder, whose name names the run.
        steps_done: steps before this one, of a resumed run.
        ids: tracker -> its name for this run, so that a resumed run goes on with it; new ones are added.
        keep: called when `ids` has changed.

    Raises:
        MissingExtraError: if a tracker is not installed.
        UsageError: if a tracker does not let the run in (not logged in, server not reached).
    """
    openers = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}
    with contextlib.ExitStack() as stack:
        callbacks: Callbacks = []
        for name in names:
            callback, identity = openers[name](arguments, run, steps_done, ids.get(name), stack)
            callbacks.append(callback)
            if identity is not None and ids.get(name) != identity:
                ids[name] = identity
                keep()
        yield callbacks


def _tensorboard(
    arguments: Mapping[str, Any],
    run: Path,
    steps_done: int,
    identity: str | None,
    stack: contextlib.ExitStack,
) -> Opened:
    import keras

    return keras.callbacks.TensorBoard(log_dir=os.fspath(run / "tensorboard"), write_graph=False), None


def _wandb(
    arguments: Mapping[str, Any],
    run: Path,
    steps_done: int,
    identity: str | None,
    stack: contextlib.ExitStack,
) -> Opened:
    import wandb
    from wandb.integration.keras import WandbMetricsLogger

    try:
        opened = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.name,
            dir=os.fspath(run),
            id=identity,
            resume="allow",
            config=dict(arguments),
        )
    except wandb.Error as error:
        raise UsageError(
            f"Weights & Biases did not let the run in: {error}. Run `wandb login`, set WANDB_MODE=offline, "
            "or leave out --track wandb"
        ) from error
    # On an exception the run is marked as failed.
    stack.enter_context(opened)
    return WandbMetricsLogger(initial_global_step=steps_done), opened.id


def _mlflow(
    arguments: Mapping[str, Any],
    run: Path,
    steps_done: int,
    identity: str | None,
    stack: contextlib.ExitStack,
) -> Opened:
    import mlflow
    import mlflow.keras

    try:
        opened = mlflow.start_run(run_id=identity, run_name=run.name)
        stack.enter_context(opened)
        mlflow.log_params({f"kseg_{name}": value for name, value in arguments.items()})
    except mlflow.exceptions.MlflowException as error:
        raise UsageError(
            f"MLflow did not let the run in: {error}. See MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME, or "
            "leave out --track mlflow"
        ) from error
    return mlflow.keras.MlflowCallback(), opened.info.run_id
