"""Convolution in which every output map sees only some of the input maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kseg.checks import Range, whole
from kseg.errors import UsageError


def random_table(inputs: int, filters: int, fan_in: int, seed: int) -> list[list[int]]:
    """Draw `fan_in` distinct input maps for each of `filters` output maps, in ascending order.

    The same arguments give the same table for ever: NumPy guarantees the stream of `RandomState`, which it
    does not for its newer generators.
    """
    random = np.random.RandomState(seed)
    return [sorted(random.permutation(inputs)[:fan_in].tolist()) for _ in range(filters)]


@keras.saving.register_keras_serializable(package="kseg")
class ConnectionTableConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with weights for the connections of a table only (Torch's SpatialConvolutionMap).

    Connections that the table lacks have no weight, rather than one that is held at zero: no optimizer,
    momentum or weight decay can move them, `count_params()` counts what is trained, optimizer states and
    files are smaller. At each call a dense kernel (`kernel`) is gathered from the weights and a zero,
    because every runtime has fast dense convolutions and none has sparse ones; that is about one per cent of
    a training step. In an exported graph the kernel is a constant and the layer one plain convolution, also
    in int8.

    Args:
        filters: number of output maps.
        kernel_size: an integer, or `(height, width)`.
        fan_in: number of input maps that each output map sees, drawn at random with `seed`.
        seed: of the draw; the same seed, numbers of maps and `fan_in` give the same table.
        table: instead of `fan_in`, the input maps of every output map: `filters` sequences of distinct
            indices, which may differ in length.
        **kwargs: of `keras.layers.Conv2D`, except `groups` and `data_format`. Initialisers see the fan-in
            of the table. Default `kernel_initializer`: `"lecun_uniform"`.

    Attributes:
        table: the input maps of every output map (after `build`).
        kernel: dense kernel `(height, width, input maps, filters)`, exactly 0 where there is no connection.

    Weights:
        `(connections, height, width)`, ordered by output map, then input map; and a bias `(filters,)`.

    Returns:
        `(B, H', W', filters)` as `Conv2D`, by default with `padding="valid"`.

    Raises:
        UsageError: for a table that does not fit `filters` or the input.

    Reference:
        LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998,
        table I; Farabet, Couprie, Najman, LeCun, "Learning Hierarchical Features for Scene Labeling", 2013.

    Example:
        >>> layer = ConnectionTableConv2D(64, 7, fan_in=8, seed=1, activation="tanh")
        >>> layer(keras.Input((46, 46, 16))).shape, layer.count_params()
        ((None, 40, 40, 64), 25152)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        fan_in: int | None = None,
        seed: int = 0,
        table: Sequence[Sequence[int]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(filters, kernel_size, **{"kernel_initializer": "lecun_uniform", **kwargs})
        if self.groups != 1 or self.data_format != "channels_last":
            raise UsageError(
                "ConnectionTableConv2D is channels-last and its table takes the place of groups. "
                f"Received: groups={self.groups}, data_format={self.data_format!r}"
            )
        if (fan_in is None) == (table is None):
            raise UsageError(
                "ConnectionTableConv2D needs one of `fan_in` and `table`. "
                f"Received: fan_in={fan_in!r}, table={'None' if table is None else 'a table'}"
            )
        self.fan_in = fan_in
        self.seed = whole(seed, "ConnectionTableConv2D", "seed", 0, 2**32 - 1)
        self.given_table = None if table is None else [[int(index) for index in row] for row in table]

    def _checked_table(self, inputs: int) -> list[list[int]]:
        table = self.given_table
        if table is None:
            fan_in = self.fan_in
            if fan_in is None or fan_in not in Range(1, inputs, whole=True):
                raise UsageError(
                    f"ConnectionTableConv2D '{self.name}': `fan_in` must be an integer from 1 to the number "
                    f"of input maps, {inputs}. Received: fan_in={fan_in!r}"
                )
            return random_table(inputs, self.filters, fan_in, self.seed)
        rows = [
            row for row in table if row and len(set(row)) == len(row) and 0 <= min(row) <= max(row) < inputs
        ]
        if len(table) != self.filters or len(rows) != len(table):
            raise UsageError(
                f"ConnectionTableConv2D '{self.name}': `table` must have {self.filters} rows (`filters`), "
                f"each of distinct indices of the {inputs} input maps. Received: {len(table)} rows, "
                f"{len(table) - len(rows)} of them wrong"
            )
        return table

    def build(self, input_shape: tuple) -> None:
        inputs = input_shape[-1]
        self.table = self._checked_table(inputs)
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: inputs})
        self.compute_output_shape(input_shape)  # says which side is smaller than the kernel
        self._inputs = inputs
        # Row of each connection in a kernel that is stored as (inputs * filters, height * width).
        rows = [index * self.filters + output for output, row in enumerate(self.table) for index in row]
        # Which weight stands in each of these rows; the one after the last weight is 0.
        self._source = np.full(inputs * self.filters, len(rows), "int32")
        self._source[rows] = np.arange(len(rows), dtype="int32")
        self._kernel = self.add_weight(
            name="kernel",
            shape=(len(rows), *self.kernel_size),
            initializer=self._initial,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.filters,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self.built = True

    @property
    def wiring(self) -> tuple[tuple[int, ...], ...]:
        """What the weights belong to: the input maps of every output map."""
        return tuple(tuple(row) for row in self.table)

    def _initial(self, shape: tuple, dtype: Any = None) -> Any:
        """Initialise the output maps of each fan-in as a dense kernel of that many inputs."""
        fans = np.array([len(row) for row in self.table])
        values, places = [], []
        for fan in np.unique(fans):
            count = int((fans == fan).sum())
            drawn = self.kernel_initializer((*self.kernel_size, int(fan), count), dtype=dtype)
            values.append(ops.reshape(ops.transpose(drawn, (3, 2, 0, 1)), (-1, *self.kernel_size)))
            places.append(np.flatnonzero(np.repeat(fans, fans) == fan))
        order = np.argsort(np.concatenate(places)).astype("int32")
        return ops.take(ops.concatenate(values), order, axis=0)

    @property
    def kernel(self) -> Any:
        if not self.built:
            raise AttributeError("You must build the layer before accessing `kernel`.")
        area = math.prod(self.kernel_size)
        taps = ops.reshape(ops.convert_to_tensor(self._kernel), (-1, area))
        # A gather, not a scatter: TFLite's converter folds it into a constant whatever the layer's size, and
        # fails on a large scatter that is called several times.
        dense = ops.take(ops.pad(taps, ((0, 1), (0, 0))), self._source, axis=0)
        return ops.reshape(ops.transpose(dense), (*self.kernel_size, self._inputs, self.filters))

    def enable_lora(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: a low-rank update of the kernel would connect what the table leaves apart.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"ConnectionTableConv2D '{self.name}' cannot have LoRA: its table would not hold.")

    def save_own_variables(self, store: Any) -> None:
        # Conv2D's own method would store the dense kernel.
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store: Any) -> None:
        keras.layers.Layer.load_own_variables(self, store)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "fan_in": self.fan_in, "seed": self.seed, "table": self.given_table}
