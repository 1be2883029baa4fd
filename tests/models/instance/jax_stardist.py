"""Run in a process of its own with KERAS_BACKEND=jax: StarDist trains a step, compiled, and finds stars."""

from __future__ import annotations

import keras
import numpy as np
from truths import image, truth

from kseg.models import StarDist, forms

keras.utils.set_random_seed(0)
model = StarDist(num_classes=3, width=0.0625, rays=8, detections=8)
found = forms.loss_form(model)
assert found is not None
names = list(found.model.output)
found.model.compile(keras.optimizers.SGD(0.01), loss={name: lambda _, given: given for name in names})
nothing = dict.fromkeys(names, np.zeros(2, np.float32))
given = {forms.IMAGE: image(2, (64, 64)), **truth(4, [3, 0], [0, 1])}
history = found.model.fit(given, nothing, epochs=2, verbose=0).history
assert all(np.isfinite(values).all() for values in history.values()), history
outputs = {name: np.asarray(value) for name, value in model(image(2, (64, 64)), training=False).items()}
assert outputs["boxes"].shape == (2, 8, 4)
assert all(np.isfinite(value).all() for value in outputs.values())
print("passed")
