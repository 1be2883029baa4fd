"""Run in a process of its own with KERAS_BACKEND=jax: MNC trains a step, compiled."""

from __future__ import annotations

import keras
import numpy as np
from truths import image, truth

from kseg.models import MNC, forms

keras.utils.set_random_seed(0)
model = MNC(
    num_classes=3, encoder="vgg16", width=0.125, hidden=64, mask_hidden=64, mask_size=14, anchor_scales=(1,),
    proposals=16, least_side=4, detections=4, voters=4,
)  # fmt: skip
found = forms.loss_form(model)
assert found is not None
names = list(found.model.output)
before = np.asarray(model.get_layer("rpn_box").kernel)
found.model.compile(keras.optimizers.SGD(0.01), loss={name: lambda _, given: given for name in names})
nothing = dict.fromkeys(names, np.zeros(2, np.float32))
given = {forms.IMAGE: image(2, (64, 64)), **truth(3, [2, 0])}
history = found.model.fit(given, nothing, verbose=0).history
assert all(np.isfinite(values).all() for values in history.values()), history
assert not np.array_equal(np.asarray(model.get_layer("rpn_box").kernel), before)
print("passed")
