"""What a network costs: parameters and floating-point operations, without running it."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import layers

from kseg.errors import UsageError
from kseg.layers import TransposedConv
from kseg.models.registry import create, describe, names
from kseg.models.shapes import shapes_only

Record = tuple[Any, tuple[int | None, ...], tuple[int | None, ...]]


class _Probe(keras.Operation):
    """Stands for an operation of a network: infers its output shape and writes it down; computes nothing."""

    def __init__(self, operation: Any, records: list[Record]) -> None:
        super().__init__()
        self._infer = operation.compute_output_spec
        self._note = lambda source, result: records.append((operation, source, result))

    def call(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("a probe is only ever called with symbolic tensors")

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        result = self._infer(*args, **kwargs)
        sources, results = keras.tree.flatten(args), keras.tree.flatten(result)
        if sources and hasattr(sources[0], "shape") and results:
            self._note(tuple(sources[0].shape), tuple(results[0].shape))
        return result


def _macs(layer: Any, source: tuple[Any, ...], result: tuple[Any, ...]) -> int:
    """Multiply-adds of one layer for one image: kernel size times the positions it is applied at."""
    # The batch is 1, unless shift-and-stitch has stacked shifted images on it.
    positions_in, positions_out = math.prod(source[:-1]), math.prod(result[:-1])
    if isinstance(layer, TransposedConv):
        shape = (*layer.kernel_size, layer.filters or 1, source[-1])
        return positions_in * math.prod(shape)
    if isinstance(layer, (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)):
        return positions_in * math.prod(layer.kernel.shape)
    if isinstance(layer, (layers.SeparableConv1D, layers.SeparableConv2D)):
        return positions_out * (
            math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
        )
    dense = (layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.DepthwiseConv1D, layers.DepthwiseConv2D)
    if isinstance(layer, (*dense, layers.Dense)):
        return positions_out * math.prod(layer.kernel.shape)
    return 0


def flops(model: keras.Model, size: tuple[int, int]) -> int:
    """Return the floating-point operations of one forward pass over one image: 2 per multiply-add.

    Counted are convolutions (also depthwise, grouped, transposed) and dense layers, nested models included;
    activations, normalisation, pooling and resizing are not. Shapes are inferred; nothing is computed.

    Args:
        model: a functional model with one image input.
        size: `(height, width)` in pixels.

    Raises:
        UsageError: if the model has not one input `(batch, height, width, channels)`.
    """
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise UsageError(
            "flops: `model` must have one input (batch, height, width, channels). "
            f"Received: {[tuple(item.shape) for item in model.inputs]}"
        )
    return 2 * _model_macs(model, (*size, model.inputs[0].shape[-1]))


def _model_macs(model: keras.Model, shape: tuple[Any, ...]) -> int:
    total = 0
    for operation, source, result in _records(model, shape):
        if isinstance(operation, keras.Model):
            total += _model_macs(operation, source[1:])
        else:
            total += _macs(operation, source, result)
    return total


def activations(model: keras.Model, size: tuple[int, int]) -> int:
    """Return how many numbers the operations of one forward pass over one image give, all together.

    Training keeps nearly all of them for the backward pass. Nested models are counted inside.

    Args:
        model: a functional model with one image input.
        size: `(height, width)` in pixels.
    """
    return _model_outputs(model, (*size, model.inputs[0].shape[-1]))


def _model_outputs(model: keras.Model, shape: tuple[Any, ...]) -> int:
    total = 0
    for operation, source, result in _records(model, shape):
        if isinstance(operation, keras.Model):
            total += _model_outputs(operation, source[1:])
        else:
            total += math.prod(side or 1 for side in result)
    return total


def _records(model: keras.Model, shape: tuple[Any, ...]) -> list[Record]:
    """Return every operation of `model` with the shapes of its input and output, for one image of `shape`."""
    records: list[Record] = []
    keras.models.clone_model(
        model,
        input_tensors=keras.Input(shape, batch_size=1),
        clone_function=lambda operation: _Probe(operation, records),
    )
    return records


def parameters(model: keras.Model) -> tuple[int, int]:
    """Return the number of trainable scalars, and of all."""
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return trainable, trainable + sum(math.prod(weight.shape) for weight in model.non_trainable_weights)


def row(name: str, size: tuple[int, int], num_classes: int = 21) -> dict[str, Any]:
    """Return what `kseg models` shows of one network in its default form.

    Args:
        name: registered name.
        size: `(height, width)` at which operations are counted.
        num_classes: number of classes it is built for.

    Returns:
        `name`, `summary`, `parameters` (trainable), `total_parameters`, `stride` (H and W are padded to a
        multiple of it), `output_stride` (of the finest scored map), `flops` at `size`, `encoder`, `paper`,
        `aliases`, `arguments`.
    """
    entry = describe(name)
    with shapes_only():
        model = create(entry.name, num_classes=num_classes)
        trainable, total = parameters(model)
        operations = flops(model, size)
    return {
        "name": entry.name,
        "summary": entry.summary,
        "parameters": trainable,
        "total_parameters": total,
        "stride": model.info.stride,
        "output_stride": entry.output_stride,
        "flops": operations,
        "encoder": entry.default_encoder,
        "paper": entry.paper,
        "aliases": list(entry.aliases),
        "arguments": {key: value for key, value in entry.parameters.items() if key != "input_shape"},
    }


def table(size: tuple[int, int], num_classes: int = 21) -> list[dict[str, Any]]:
    """Return `row` of every registered network, in alphabetical order."""
    return [row(name, size, num_classes) for name in names()]
