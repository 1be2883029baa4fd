"""Training from arrays on the JAX backend where TensorFlow cannot be imported."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys

class NoTensorFlow:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "tensorflow_datasets", "tf_keras"):
            raise ModuleNotFoundError(f"No module named {name!r} (blocked by the test)")
        return None

sys.meta_path.insert(0, NoTensorFlow())
import numpy as np
import kseg
assert "keras" not in sys.modules
import keras
assert keras.backend.backend() == "jax"
rng = np.random.default_rng(0)
masks = rng.integers(0, 2, (8, 2, 3)).repeat(8, 1).repeat(8, 2).astype("uint8")
images = (masks[..., None] * 150 + rng.integers(0, 40, (8, 16, 24, 3))).astype("uint8")
masks[:, 0] = 255
spec = kseg.Spec(classes=("a", "b"))
train = kseg.data.from_arrays(images, masks, spec, batch_size=4, shuffle=True, augment=True)
val = kseg.data.from_arrays(images, masks, spec, batch_size=4)
keras.utils.set_random_seed(0)
model = kseg.models.create("unet", num_classes=2, width=0.0625, depth=2)
average = kseg.training.AverageWeights(0.9, every=1)
model.compile(
    optimizer=keras.optimizers.AdamW(kseg.training.WarmUpCosine(0.02, 40, 4)),
    loss=kseg.losses.PixelCrossEntropy(ignore_id=255, class_weights=[1.0, 1.5]),
    metrics=[kseg.metrics.MeanIoU(num_classes=2, ignore_id=255)],
)
history = model.fit(train, validation_data=val, epochs=20, shuffle=False, verbose=0,
                    callbacks=[average, kseg.training.StopOnNaN()]).history
assert history["loss"][-1] < history["loss"][0], history["loss"]
assert history["val_miou"][-1] > 0.5, history["val_miou"]
score = history["val_miou"][-1]
average.apply_to(model)
assert abs(model.evaluate(val, verbose=0, return_dict=True)["miou"] - score) < 1e-4
kseg.save(model, sys.argv[1], spec=train.spec)
again = kseg.load(sys.argv[1])
x = val[0][0]
assert np.array_equal(np.asarray(model(x)), np.asarray(again(x)))
assert not any(name.split(".")[0] == "tensorflow" for name in sys.modules)
print("done")
"""


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_training_from_arrays_needs_no_tensorflow(tmp_path: Path) -> None:
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "model.keras")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "done" in done.stdout
