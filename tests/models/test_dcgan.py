"""DCGAN's generator: sizes, ledger counts, range, and that it learns."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kseg.errors import UsageError
from kseg.layers import TransposedConv
from kseg.models import DCGANGenerator, names
from kseg.models.summary import parameters, shapes_only


@pytest.mark.parametrize(("normalized", "count"), [("units", 18_885_760), ("channels", 18_855_040)])
def test_trainable_parameters_are_the_ledgers(normalized: str, count: int) -> None:
    with shapes_only():
        assert parameters(DCGANGenerator(normalized=normalized))[0] == count


def test_four_enlargements_from_4_to_64_pixels() -> None:
    with shapes_only():
        model = DCGANGenerator()
    found = [layer for layer in model.layers if isinstance(layer, TransposedConv)]
    assert [tuple(layer.input.shape[1:]) for layer in found] == [
        (4, 4, 1024),
        (8, 8, 512),
        (16, 16, 256),
        (32, 32, 128),
    ]
    assert model.output.shape == (None, 64, 64, 3)
    assert all(layer.kernel_size == (5, 5) and layer.bias is None for layer in found)


@pytest.mark.parametrize("normalized", ["units", "channels"])
def test_pictures_lie_between_minus_one_and_one(normalized: str) -> None:
    keras.utils.set_random_seed(0)
    model = DCGANGenerator(width=0.03, normalized=normalized)
    noise = np.random.default_rng(0).uniform(-1, 1, (4, 100)).astype("float32")
    pictures = np.asarray(model(noise, training=True))
    assert pictures.shape == (4, 64, 64, 3)
    assert np.abs(pictures).max() <= 1
    assert np.ptp(pictures[0] - pictures[1]) > 0


def test_weights_start_normal_with_standard_deviation_0_02() -> None:
    keras.utils.set_random_seed(0)
    model = DCGANGenerator(width=0.1)
    kernel = model.get_layer("enlarge1").get_weights()[0]
    assert kernel.shape == (5, 5, 48, 104)
    assert kernel.std() == pytest.approx(0.02, rel=0.02)
    assert model.get_layer("project_bn").get_weights()[0].mean() == pytest.approx(1, abs=0.01)


def test_learns_four_pictures() -> None:
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    model = DCGANGenerator(width=0.03)
    model.compile(keras.optimizers.Adam(4e-3, beta_1=0.5), "mse", jit_compile=False)
    noise = random.uniform(-1, 1, (4, 100)).astype("float32")
    pictures = np.kron(random.uniform(-0.9, 0.9, (4, 4, 4, 3)), np.ones((1, 16, 16, 1))).astype("float32")
    losses = model.fit(noise, pictures, batch_size=4, epochs=12, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0], losses


def test_is_no_segmentation_network() -> None:
    assert "DCGANGenerator" not in names()


@pytest.mark.parametrize(
    "arguments", [{"z": 0}, {"image_channels": 1.5}, {"width": 0}, {"normalized": "layer"}]
)
def test_wrong_arguments_are_named(arguments: dict) -> None:
    with pytest.raises(UsageError, match=f"`{next(iter(arguments))}` must be"):
        DCGANGenerator(**arguments)
