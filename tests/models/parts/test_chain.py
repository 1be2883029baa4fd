"""A chain strided, dense and in between: receptive field, stride, and the same numbers in every form."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from kseg.errors import UsageError
from kseg.layers import RarefiedConv2D, RarefiedMaxPooling2D
from kseg.models.parts.chain import Chain


@pytest.fixture(scope="module")
def chain() -> Chain:
    """The sheet's example with a pooling of three: convolutions 5, 5, 4, poolings 2 and 3."""
    keras.utils.set_random_seed(5)
    return Chain(
        [
            RarefiedConv2D(4, 5, activation="relu"),
            RarefiedMaxPooling2D(2),
            RarefiedConv2D(5, 5),
            RarefiedMaxPooling2D(3),
            keras.layers.Activation("tanh"),
            RarefiedConv2D(6, 4),
        ]
    )


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(1, 45, 49, 3)).astype("float32")


@pytest.fixture(scope="module")
def per_patch(chain: Chain, image: np.ndarray) -> np.ndarray:
    """The strided form on every patch, one by one."""
    size = chain.receptive_field
    windows = np.lib.stride_tricks.sliding_window_view(image[0], (size, size), axis=(0, 1))
    rows, columns = windows.shape[:2]
    patches = windows.transpose(0, 1, 3, 4, 2).reshape(-1, size, size, 3)
    return ops.convert_to_numpy(chain(patches, chain.stride)).reshape(rows, columns, -1)


def test_receptive_field_and_stride_are_those_of_the_layers(chain: Chain) -> None:
    # 5, +1 by the pooling, +4 * 2, +2 * 2, +3 * 6
    assert (chain.receptive_field, chain.stride) == (36, 6)
    assert chain(keras.Input((36, 36, 3)), 6).shape == (None, 1, 1, 6)
    with pytest.raises(UsageError, match="reaches over"):
        chain(keras.Input((36, 35, 3)), 6)


def test_dense_output_is_input_minus_receptive_field_plus_one(chain: Chain) -> None:
    assert chain(keras.Input((45, 49, 3))).shape == (None, 45 - 36 + 1, 49 - 36 + 1, 6)
    assert chain(keras.Input((None, None, 3))).shape == (None, None, None, 6)


@pytest.mark.parametrize("output_stride", [1, 2, 3, 6])
def test_every_form_gives_the_answers_of_the_patches(
    chain: Chain, image: np.ndarray, per_patch: np.ndarray, output_stride: int
) -> None:
    found = ops.convert_to_numpy(chain(image, output_stride))[0]
    np.testing.assert_allclose(found, per_patch[::output_stride, ::output_stride], atol=1e-5)


def test_a_chain_goes_on_where_another_was_made_dense(image: np.ndarray) -> None:
    first = Chain([RarefiedConv2D(4, 3), RarefiedMaxPooling2D(2)])
    second = Chain([RarefiedConv2D(5, 2), RarefiedMaxPooling2D(2)])
    strided = ops.convert_to_numpy(second(first(image, 2), 2))
    dense = ops.convert_to_numpy(second(first(image), rate=2))
    half = ops.convert_to_numpy(second(first(image), 2, rate=2))
    np.testing.assert_allclose(dense[:, ::4, ::4], strided, atol=1e-5)
    np.testing.assert_allclose(half, dense[:, ::2, ::2], atol=1e-5)


@pytest.mark.parametrize("output_stride", [0, 4, 12, 1.0, True])
def test_only_divisors_of_the_stride_are_output_strides(chain: Chain, output_stride) -> None:
    with pytest.raises(UsageError, match=r"one of 1, 2, 3, 6\. Received: output_stride="):
        chain(keras.Input((45, 49, 3)), output_stride)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (keras.layers.Conv2D(3, 3), "type Conv2D"),
        (keras.layers.MaxPooling2D(2), "type MaxPooling2D"),
        (RarefiedConv2D(3, (3, 5)), "3 x 5"),
    ],
)
def test_layers_without_a_dense_form_are_refused(layer, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Chain([layer])
