"""What converting a large network to ONNX needs, as a reason to skip."""

from __future__ import annotations

import keras
import psutil
import pytest

# Bytes of memory per weight that tf2onnx and TensorFlow's freezing take, and what the process takes besides.
# Measured: FCN-AlexNet 6.0 GB, FCN-8s 11.8 GB.
ONNX_BYTES, OWN_BYTES = 85, 1.5e9


def skip_without_memory_for_onnx(network: keras.Model) -> None:
    needed = ONNX_BYTES * network.count_params() + OWN_BYTES
    free = psutil.virtual_memory().available
    if free < needed:
        pytest.skip(f"{needed / 1e9:.0f} GB of memory are needed, {free / 1e9:.0f} GB are free")
