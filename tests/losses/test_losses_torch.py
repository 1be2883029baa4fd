"""Losses against what torch and torchvision answered (`tests/references/record.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kseg import losses

tf = pytest.importorskip("tensorflow")
REFERENCES = Path(__file__).resolve().parents[1] / "references" / "torch.npz"


@pytest.fixture(scope="module")
def torch() -> Iterator[dict[str, np.ndarray]]:
    with np.load(REFERENCES) as recorded:
        yield {name: recorded[f"losses/{name}"] for name in _names(recorded)}


def _names(recorded) -> list[str]:
    return [name.removeprefix("losses/") for name in recorded.files if name.startswith("losses/")]


def test_label_smoothing_with_class_weights_is_torchs(torch) -> None:
    labels, logits = torch["labels"][None, None], tf.constant(torch["logits"][None, None], tf.float32)
    loss = losses.PixelCrossEntropy(class_weights=torch["factors"], label_smoothing=0.1, reduction=None)
    np.testing.assert_allclose(loss(labels, logits)[0, 0], torch["smoothed"], rtol=1e-5)
    total = losses.PixelCrossEntropy(class_weights=torch["factors"], label_smoothing=0.1, reduction="sum")
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = total(labels, logits)
    np.testing.assert_allclose(tape.gradient(value, logits)[0, 0], torch["smoothed_gradient"], atol=1e-6)


@pytest.mark.parametrize(("name", "weights"), [("focal", None), ("focal_alpha", (0.75, 0.25))])
def test_focal_of_two_classes_is_torchvisions(torch, name: str, weights) -> None:
    one = torch["binary_logits"].astype("float32")
    logits = np.stack([np.zeros_like(one), one], axis=-1)[None, None]
    loss = losses.Focal(class_weights=weights, gamma=2.0, reduction=None)
    found = np.asarray(loss(torch["binary_labels"][None, None], logits))[0, 0]
    np.testing.assert_allclose(found, torch[name], rtol=1e-4, atol=1e-7)
