"""The networks over EfficientNet-Lite (ReLU6, no gates): they train, and int8 keeps their classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from battery import CLASSES, SPEC, batch, four_samples

from kseg.losses import PixelCrossEntropy
from kseg.models import create

NETWORKS: dict[str, dict[str, Any]] = {
    "FCN8s": {"head_channels": 64},
    "UNet": {},
    "LRASPP": {},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_trains_and_exports_to_int8(name: str, tmp_path: Path) -> None:
    for module in ("ai_edge_litert", "ai_edge_quantizer"):
        pytest.importorskip(module)
    from ai_edge_litert.interpreter import Interpreter

    import deploy

    keras.utils.set_random_seed(1)
    model = create(
        name, num_classes=CLASSES, encoder="efficientnetlite0", width=0.25, dropout=0.0, **NETWORKS[name]
    )
    model.spec = SPEC
    model.compile(keras.optimizers.Adam(1e-2, clipnorm=1.0), PixelCrossEntropy(ignore_id=SPEC.ignore_id))
    samples = four_samples(64, 96)
    images, masks = batch(samples)
    losses = model.fit(images, masks, batch_size=4, epochs=60, verbose=0, shuffle=False).history["loss"]
    assert losses[-1] < 0.3 * losses[0]

    path = tmp_path / "model.tflite"
    deploy.export(model, path, precision="int8", size=(64, 96), calibration=samples, verify=False)
    outcome = deploy.verify(path, reference=model, data=samples)
    assert outcome.agreement > 0.95
    assert outcome.drop < 3
    details = Interpreter(str(path)).get_tensor_details()
    convolved = [item for item in details if "depthwise_conv" in item["name"] and len(item["shape"]) == 4]
    assert convolved
    assert {np.dtype(item["dtype"]).name for item in convolved} == {"int8"}
