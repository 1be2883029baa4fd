"""Run in a process of its own with KERAS_BACKEND=jax: instance networks train a step and find objects."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from truths import image, truth

from kseg.models import create, forms

THIN: dict[str, dict[str, Any]] = {
    "MaskRCNN": {"encoder": None, "width": 0.0625, "anchor_scale": 4, "proposals": 16},
    # Faster R-CNN is made of its parts.
    "MNC": {
        "encoder": "vgg16", "width": 0.125, "hidden": 64, "mask_hidden": 64, "mask_size": 14,
        "anchor_scales": (1,), "proposals": 16, "least_side": 4, "voters": 4,
    },
    "StarDist": {"width": 0.0625, "rays": 8},
}  # fmt: skip


def check(name: str) -> None:
    keras.utils.set_random_seed(0)
    model = create(name, num_classes=3, detections=4, **THIN[name])
    found = forms.loss_form(model)
    assert found is not None
    names = list(found.model.output)
    before = [np.asarray(weight) for weight in model.trainable_weights]
    found.model.compile(keras.optimizers.SGD(0.01), loss={name: lambda _, given: given for name in names})
    given = {forms.IMAGE: image(2, (64, 64)), **truth(4, [3, 0], [0, 1])}
    history = found.model.fit(given, dict.fromkeys(names, np.zeros(2, np.float32)), verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values()), history
    moved = [not np.array_equal(w, first) for w, first in zip(model.trainable_weights, before, strict=True)]
    assert np.mean(moved) > 0.9, name
    outputs = model.predict(image(2, (64, 64)), verbose=0)
    assert outputs["boxes"].shape == (2, 4, 4)
    assert all(np.isfinite(value).all() for value in outputs.values())
    print("passed", name)


for each in THIN:
    check(each)
