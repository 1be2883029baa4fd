"""Run a Keras network, from a `.keras` file or from memory, as a compiled function."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kseg import tasks
from kseg.errors import UsageError, first_line
from kseg.sharing import Shared
from kseg.spec import Spec
from kseg.tasks import OneOutput

if TYPE_CHECKING:
    import keras

Call = Callable[[NDArray[np.float32]], Any]


class KerasRuntime(OneOutput):
    """A runtime over a functional Keras model.

    On TensorFlow the network is traced once, whatever sizes follow (once per shape where a layer needs to
    know the size); on JAX it is compiled once per shape. Weights are read at each call: a model that is being
    trained gives its present answers.

    Threads may share it, and run side by side: compiled functions of both backends allow it. Other backends
    run one call at a time.

    Args:
        source: path of a `.keras` file that `kseg.save` wrote, or a network with one image input and the
            outputs of its spec's task: one, or several by name.
        spec: the Spec of the network; default: `model.spec`.

    Raises:
        ArtefactError: if the file is damaged or not ours.
        UsageError: if a model without a Spec is given, or one with other inputs or outputs.
    """

    name = "keras"

    def __init__(self, source: str | os.PathLike[str] | keras.Model, spec: Spec | None = None) -> None:
        if isinstance(source, str | os.PathLike):
            from kseg.saving import load

            source = load(source)
        model = source
        spec = spec if spec is not None else getattr(model, "spec", None)
        if not isinstance(spec, Spec):
            raise UsageError(
                "The model has no Spec, so nobody knows its classes and normalisation. Set model.spec = "
                f"train.spec, or load a file that kseg.save wrote. Received: {type(model).__name__} "
                f"with spec={spec!r}"
            )
        self._names = _checked_outputs(model, spec)
        self.model = model
        self.spec = spec
        height, width = model.inputs[0].shape[1:3]
        self.input_size = None if height is None or width is None else (int(height), int(width))
        self._call, exclusive = _compiled(model)
        self._shared = Shared(getattr(model, "name", self.name), exclusive=exclusive)

    def outputs(self, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return the outputs by name (`logits` `(B, H, W, classes)`) for normalised images `(B, H, W, 3)`.

        All are float32. They are the backend's own memory, not a copy, so they cannot be written to.

        Raises:
            UsageError: if the runtime was closed.
        """
        with self._shared.use():
            found = self._call(np.ascontiguousarray(images, np.float32))
            named = found if isinstance(found, dict) else {self._names[0]: found}
            # Asked for without a type, a tensor of the CPU shares its memory; with one it is copied.
            return {name: np.asarray(np.asarray(named[name]), np.float32) for name in self._names}

    def close(self) -> None:
        """Drop the compiled function and the network, after the calls that other threads have begun."""
        self._shared.close(self._free)

    def _free(self) -> None:
        del self._call, self.model


def _checked_outputs(model: keras.Model, spec: Spec) -> tuple[str, ...]:
    """Return the names of the outputs; raise UsageError unless they are those of the spec's task."""
    task = tasks.find(spec.task)
    expected = task.part("outputs")(spec, (0, 0))
    ranks = {name: 1 + len(shape) for name, shape in expected.items()}
    given = model.output if isinstance(model.output, dict) else dict(zip(ranks, model.outputs, strict=False))
    takes = [tuple(end.shape) for end in model.inputs]
    image = len(takes) == 1 and len(takes[0]) == 4 and takes[0][3] == task.channels
    found = {name: len(end.shape) for name, end in given.items()}
    if not image or found != ranks or len(model.outputs) != len(ranks):
        ends = [*takes, *(tuple(end.shape) for end in model.outputs)]
        raise UsageError(
            f"A runtime needs one image input (B, H, W, {task.channels}) and, for its spec, one output of "
            f"{tasks.described_outputs(spec)}. Received: {len(model.inputs)} inputs, {len(model.outputs)} "
            f"outputs, of shapes {ends}"
        )
    return tuple(ranks)


def _compiled(model: keras.Model) -> tuple[Call, bool]:
    """Return the network as one call of the present backend, and whether calls must wait for one another."""
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _tensorflow(model), False
    if backend == "jax":
        return _jax(model), False
    return lambda images: model.predict_on_batch(images), True


def _tensorflow(model: keras.Model) -> Call:
    import tensorflow as tf

    def forward(images: Any) -> Any:
        return model(images, training=False)

    # One signature with open sizes: no second trace when another size comes.
    signature = [tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32)]
    traced = tf.function(forward, input_signature=signature)
    # Layers that compute with sizes in Python (Keras' bilinear UpSampling2D is one) take a trace per size,
    # which is what `model.predict` does.
    traced_by_size = tf.function(forward)
    open_sizes = True

    def by_size(batch: Any) -> Any:
        try:
            return traced_by_size(batch)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"The network '{model.name}' cannot be run as a graph on images of shape {batch.shape}: "
                f"{first_line(error)}"
            ) from error

    def call(images: NDArray[np.float32]) -> Any:
        nonlocal open_sizes
        batch = tf.constant(images)
        if not open_sizes:
            return by_size(batch)
        try:
            return traced(batch)
        except (TypeError, ValueError):
            answer = by_size(batch)
            open_sizes = False
            return answer

    return call


def _jax(model: keras.Model) -> Call:
    import jax

    @jax.jit
    def forward(trainable: list[Any], others: list[Any], images: Any) -> Any:
        outputs, _ = model.stateless_call(trainable, others, images, training=False)
        return outputs

    def call(images: NDArray[np.float32]) -> Any:
        trainable = [variable.value for variable in model.trainable_variables]
        others = [variable.value for variable in model.non_trainable_variables]
        return forward(trainable, others, images)

    return call
