"""No network has the convolution whose gradient spoils memory (TensorFlow 2.21, oneDNN)."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from kseg.models import ResUNet
from kseg.models.parts.blocks import ONEDNN_CHANNELS, conv_bn_relu


@pytest.mark.parametrize("width", [0.125, 0.25, 0.5])
def test_thin_networks_subsample_before_a_1x1_convolution(width: float) -> None:
    for layer in ResUNet(num_classes=2, width=width).layers:
        if isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (1, 1) and layer.strides != (1, 1):
            assert layer.input.shape[-1] >= ONEDNN_CHANNELS, layer.name


@pytest.mark.parametrize("size", [(8, 10), (7, 9)])
def test_it_is_the_same(size: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(size=(1, *size, 4)).astype(np.float32)
    image = keras.Input((None, None, 4))
    model = keras.Model(image, conv_bn_relu(image, 6, 1, 2, name="thin"))
    plain = keras.layers.Conv2D(6, 1, 2, padding="same", use_bias=False)
    plain.build((None, None, None, 4))
    plain.set_weights(model.get_layer("thin_conv").get_weights())
    normalised = model.get_layer("thin_bn")(plain(x), training=False)
    np.testing.assert_allclose(
        ops.convert_to_numpy(model(x)), ops.convert_to_numpy(ops.relu(normalised)), atol=1e-6
    )
