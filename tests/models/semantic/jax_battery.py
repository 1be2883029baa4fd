"""Run in a process of its own with KERAS_BACKEND=jax: a smaller battery for every network of the tests."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path

import keras
import numpy as np
from battery import CLASSES, ModelBattery, batch, four_samples

import kseg
from kseg.inference import Predictor
from kseg.models import names

# Made of the layers of another one that is checked: compiling them again shows nothing new.
SAME_LAYERS = {"FCN16s": "FCN8s", "FCN32s": "FCN8s", "FCN8sAtOnce": "FCN8s", "N4": "PatchNet"}


def check(case: type[ModelBattery], folder: Path) -> None:
    """Two steps of `fit` move every weight, an image of odd size is predicted, the file holds it."""
    model = case.compiled(keras.optimizers.Adam(1e-3))
    before = [keras.ops.convert_to_numpy(weight).copy() for weight in model.trainable_variables]
    images, masks = batch(four_samples(*case.size))
    # A score layer that starts at zero passes no gradient in the first step.
    history = model.fit(images, masks, batch_size=2, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    for weight, old in zip(model.trainable_variables, before, strict=True):
        new = keras.ops.convert_to_numpy(weight)
        assert np.isfinite(new).all(), weight.path
        assert not np.array_equal(new, old), f"{weight.path} gets no gradient"

    logits = Predictor(model).logits(four_samples(*case.odd_sizes[0])[0].image)
    assert (logits.shape, logits.dtype) == ((*case.odd_sizes[0], CLASSES), "float32")
    assert np.isfinite(logits).all()
    assert np.ptp(logits) > 0

    kseg.save(model, folder / "model.keras")
    for mine, theirs in zip(
        model.get_weights(), kseg.load(folder / "model.keras").get_weights(), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)


def main() -> None:
    assert keras.backend.backend() == "jax"
    for file in sorted(Path(__file__).parent.glob("test_model_*.py")):
        importlib.import_module(file.stem)
    cases = {case.architecture: case for case in reversed(ModelBattery.__subclasses__())}
    assert sorted(cases) == names("semantic"), "a network has no battery"
    assert {*SAME_LAYERS, *SAME_LAYERS.values()} <= set(cases)
    for name, case in cases.items():
        if name in SAME_LAYERS:
            continue
        with tempfile.TemporaryDirectory() as folder:
            check(case, Path(folder))
        print(f"passed {name}", flush=True)


if __name__ == "__main__":
    main()
