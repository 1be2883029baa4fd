"""Batch-normalisation statistics measured again, after training, with the weights held still."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import keras
from keras import ops

from kseg.checks import whole
from kseg.errors import DataError, UsageError


class _Moments(keras.layers.Layer):
    """Mean and biased variance of all axes but one, in float32, and how many values are behind each.

    Returns:
        `(C,)`, `(C,)` and `()`.
    """

    def __init__(self, axis: int, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.axis = axis

    def call(self, inputs: Any) -> tuple[Any, Any, Any]:
        kept = self.axis % len(inputs.shape)
        others = [axis for axis in range(len(inputs.shape)) if axis != kept]
        mean, variance = ops.moments(inputs, others)
        sizes = [ops.shape(inputs)[axis] for axis in others]
        return mean, variance, ops.prod(ops.cast(ops.stack(sizes), "float32"))


def _with_moments(model: keras.Model) -> tuple[list[keras.layers.BatchNormalization], dict[str, Any], Any]:
    """Call the layers of `model` once more, symbolically, and note what each normalisation receives.

    Returns:
        The normalisations (one that is called several times stands there for every call), the symbolic
        moments of what they receive under `"0"`, `"1"`, ..., and the input that these come from.
    """
    found: list[keras.layers.BatchNormalization] = []
    moments: dict[str, Any] = {}

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        # A frozen layer works with its stored statistics even in training: nothing is to be measured.
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            moments[str(len(found))] = _Moments(layer.axis)(args[0])
            found.append(layer)
        return layer(*args, **kwargs)

    rebuilt = keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)
    return found, moments, rebuilt.input


def _stream(batches: Iterable[Any]) -> Iterator[Any]:
    """Yield the batches; a data set of Keras, which knows epochs, goes on with the next one for ever."""
    if not isinstance(batches, keras.utils.PyDataset):
        yield from batches
        return
    while batches.num_batches:
        for index in range(batches.num_batches):
            yield batches[index]
        batches.on_epoch_end()


def check_reestimable(model: keras.Model) -> None:
    """Raise a UsageError when `reestimate_batch_norm` could not reach the normalisations of `model`."""
    _check(model, _with_moments(model)[0])


def _check(model: keras.Model, found: list[keras.layers.BatchNormalization]) -> None:
    known = {id(layer) for layer in found}
    hidden = [
        layer.path
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable and id(layer) not in known
    ]
    if hidden:
        raise UsageError(
            f"reestimate_batch_norm: {model.name} calls batch normalisation inside a nested model or a layer "
            f"({', '.join(hidden[:3])}), out of sight. Build it as one flat functional model."
        )
    if not found:
        raise UsageError(f"reestimate_batch_norm: {model.name} has no batch normalisation that is trained.")


@contextlib.contextmanager
def _restored_on_error(model: keras.Model) -> Iterator[None]:
    """A pass in training mode moves the statistics; put them back if it does not come to its end."""
    before = [ops.convert_to_numpy(variable) for variable in model.non_trainable_variables]
    try:
        yield
    except BaseException:
        for variable, value in zip(model.non_trainable_variables, before, strict=True):
            variable.assign(value)
        raise


def reestimate_batch_norm(model: keras.Model, batches: Iterable[Any], count: int = 500) -> int:
    """Set every moving mean and variance to the average over training batches, with the final weights.

    In training the moving statistics trail behind the weights, and averaged weights (EMA) have never had
    statistics of their own. DeconvNet's release therefore runs `count` training batches once more and
    averages, layer by layer, the batch's mean and its unbiased variance, `m / (m - 1)` times the biased
    one, where m is the number of values behind it. The network is in training mode: each layer receives
    what the layers before it give when they normalise by the batch; dropout, where there is any, drops.

    The epsilon of each layer stays as it is (the release adds 1e-9 in training and test alike; 1e-3 is what
    networks of kseg are trained with). Layers that are frozen (`trainable=False`) keep their statistics,
    and use them. Works on every backend.

    Args:
        model: a functional model, its normalisations not inside nested models; changed in place.
        batches: iterable of `(images, masks)` or of images, as `model.fit` sees them in training (the same
            crops, augmentation and batch size); only the images are used. A `keras.utils.PyDataset`, such
            as `kseg.data.Batches`, is read over as many epochs as it takes.
        count: number of batches to average over, at most; 500 in the release.

    Returns:
        The number of batches that were averaged.

    Raises:
        UsageError: `count` is out of range, or there is no normalisation that can be reached.
        DataError: there is no batch, or a statistic has one single value behind it (a batch of one image at
            a layer of 1 x 1). The statistics are then what they were.

    Example:
        >>> reestimate_batch_norm(model, kseg.data.load("camvid", augment=True), count=100)

    Reference:
        Noh, Hong, Han, ICCV 2015, code release (`BN_make_INFERENCE_script.py`).
    """
    whole(count, "reestimate_batch_norm: argument", "count")
    found, moments, image = _with_moments(model)
    _check(model, found)
    measured = keras.Model(image, moments)
    sums = [[0.0, 0.0] for _ in found]
    done = 0
    with _restored_on_error(model):
        for batch in itertools.islice(_stream(batches), count):
            images = batch[0] if isinstance(batch, (tuple, list)) else batch
            outputs = measured(images, training=True)
            for index, total in enumerate(sums):
                mean, variance, values = (
                    ops.convert_to_numpy(x).astype("float64") for x in outputs[str(index)]
                )
                if values < 2:
                    raise DataError(
                        "reestimate_batch_norm: a layer of 1 x 1 sees one single value of each channel in a "
                        "batch of one image, which has no variance. Use larger batches or images."
                    )
                total[0] += mean
                total[1] += variance * values / (values - 1)
            done += 1
        if not done:
            raise DataError("reestimate_batch_norm: there is no batch to measure.")
    for layer in dict.fromkeys(found):
        calls = [total for total, owner in zip(sums, found, strict=True) if owner is layer]
        for place, variable in enumerate((layer.moving_mean, layer.moving_variance)):
            variable.assign(sum(total[place] for total in calls) / (done * len(calls)))
    return done
