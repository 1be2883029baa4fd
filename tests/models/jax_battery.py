"""Run in a process of its own with KERAS_BACKEND=jax: a smaller battery for every network of the tests."""

from __future__ import annotations

import importlib
from pathlib import Path

import jax
import keras
import numpy as np
from battery import ModelBattery, four_images

from kseg.losses import PixelCrossEntropy
from kseg.models import names


def check(case: type[ModelBattery]) -> None:
    """Forward at an odd size, gradients of all weights, one step of `fit`."""
    model = case.make()
    height, width = case.odd_sizes[0]
    logits = model(np.ones((1, height, width, 3), "float32"), training=False)
    assert logits.shape[1:3] == (height, width)
    assert logits.dtype == "float32"

    loss = PixelCrossEntropy(ignore_id=255)
    images, masks = four_images(*case.size)

    def objective(trainable: list) -> jax.Array:
        frozen = [w.value for w in model.non_trainable_variables]
        outputs, _ = model.stateless_call(trainable, frozen, images[:2], training=True)
        return loss(masks[:2], outputs)

    for gradient in jax.grad(objective)([w.value for w in model.trainable_variables]):
        assert np.isfinite(gradient).all()

    before = [np.array(w) for w in model.trainable_variables]
    model.compile(keras.optimizers.SGD(0.1), loss)
    history = model.fit(images, masks, batch_size=4, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert any(not np.array_equal(old, w) for old, w in zip(before, model.trainable_variables, strict=True))


def main() -> None:
    assert keras.backend.backend() == "jax"
    for file in sorted(Path(__file__).parent.glob("test_model_*.py")):
        importlib.import_module(file.stem)
    cases = {case.architecture: case for case in reversed(ModelBattery.__subclasses__())}
    assert sorted(cases) == names(), "a network has no battery"
    for name, case in cases.items():
        check(case)
        print(f"passed {name}", flush=True)


if __name__ == "__main__":
    main()
