"""One of several outputs, while a saved model holds what leads to all of them."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="kseg")
class PickOutput(keras.layers.Layer):
    """Passes one of several tensors on; the others only stay part of the graph, and so of the saved model.

    Converters drop what the picked tensor does not need.

    Args:
        index: which one.

    Call arguments:
        inputs: list of tensors.

    Returns:
        `inputs[index]`, unchanged.
    """

    def __init__(self, index: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.index = index

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple:
        return tuple(input_shape[self.index])

    def call(self, inputs: list[Any]) -> Any:
        return inputs[self.index]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "index": self.index}
