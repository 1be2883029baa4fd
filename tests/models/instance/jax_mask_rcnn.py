"""Run in a process of its own with KERAS_BACKEND=jax: Mask R-CNN trains a step, compiled, and finds boxes."""

from __future__ import annotations

import keras
import numpy as np

from kseg.layers.detection import TRUE_SIDE
from kseg.models import MaskRCNN, forms

keras.utils.set_random_seed(0)
model = MaskRCNN(num_classes=2, encoder=None, width=0.0625, anchor_scale=4, proposals=32, detections=8)
found = forms.loss_form(model)
assert found is not None
names = list(found.model.output)
image = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
truth = {
    "true_boxes": np.tile(np.array([[8, 8, 30, 34], [0, 0, 0, 0]], np.float32), (2, 1, 1)),
    "true_classes": np.tile(np.array([1, 0], np.int32), (2, 1)),
    "true_objects": np.tile(np.array([1, 0], np.float32), (2, 1)),
    "true_crowds": np.zeros((2, 2), np.float32),
    "true_masks": np.ones((2, 2, TRUE_SIDE, TRUE_SIDE), np.uint8),
}
found.model.compile(keras.optimizers.SGD(0.01), loss={name: lambda _, given: given for name in names})
nothing = dict.fromkeys(names, np.zeros(2, np.float32))
history = found.model.fit({forms.IMAGE: image, **truth}, nothing, epochs=3, verbose=0).history
assert all(np.isfinite(values).all() for values in history.values()), history
outputs = {name: np.asarray(value) for name, value in model(image, training=False).items()}
assert outputs["boxes"].shape == (2, 8, 4)
assert all(np.isfinite(value).all() for value in outputs.values())
print("passed")
