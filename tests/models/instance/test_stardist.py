"""StarDist: outputs of fixed shapes, losses whatever an image holds, and circles that it learns to find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from truths import CASES, check_objects, image, truth, untouched

from kseg.errors import UsageError
from kseg.models import StarDist, describe, forms

LOSSES = {"object", "inside", "rays", "class"}
THIN: dict[str, Any] = {"num_classes": 3, "width": 0.0625, "rays": 8, "detections": 12}


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    return StarDist(**THIN)


@pytest.fixture(scope="module")
def form(network: keras.Model) -> keras.Model:
    found = forms.loss_form(network)
    assert found is not None
    return found.model


def outputs(network: keras.Model, given: np.ndarray) -> dict[str, np.ndarray]:
    return {name: ops.convert_to_numpy(value) for name, value in network(given, training=False).items()}


@pytest.mark.parametrize("size", [(96, 64), (70, 81)])
def test_outputs_have_fixed_shapes(network: keras.Model, size: tuple[int, int]) -> None:
    found = outputs(network, image(2, size))
    assert {name: value.shape for name, value in found.items()} == {
        "boxes": (2, 12, 4), "scores": (2, 12), "classes": (2, 12), "masks": (2, 12, 28, 28),
    }  # fmt: skip
    check_objects(found, size, classes=3)


@pytest.mark.parametrize(("rows", "objects", "crowds"), CASES.values(), ids=CASES)
def test_losses_are_finite_whatever_is_there(
    form: keras.Model, rows: int, objects: list[int], crowds: list[int] | None
) -> None:
    given = truth(rows, objects, crowds)
    found = {
        name: ops.convert_to_numpy(value)
        for name, value in form({forms.IMAGE: image(), **given}, training=True).items()
    }
    assert set(found) == LOSSES
    assert all(np.isfinite(value).all() and value.shape == (2,) for value in found.values())
    assert all((value >= 0).all() for value in found.values())
    empty = np.array(objects) == 0
    for name in ("rays", "class"):
        assert not found[name][empty].any(), name
        assert found[name][~empty].all(), name
    for name in ("object", "inside"):
        assert found[name].all(), name


def test_every_part_learns(form: keras.Model, network: keras.Model) -> None:
    assert untouched(form, network, {forms.IMAGE: image(), **truth(5, [4, 3])}) == []


def test_a_few_steps_help_and_are_saved(tmp_path: Path) -> None:
    """The other stride, and stars without the map of what is inside."""
    keras.utils.set_random_seed(0)
    network = StarDist((64, 64, 3), width=0.0625, rays=8, detections=6, output_stride=4, refine=False)
    found = forms.loss_form(network)
    assert found is not None
    assert set(found.model.output) == LOSSES - {"class"}
    found.model.compile(
        keras.optimizers.Adam(0.01),
        loss={name: lambda _, given: given for name in found.model.output},
        jit_compile=False,
    )
    given = {forms.IMAGE: image(2, (64, 64)), **truth(4, [3, 2])}
    nothing = dict.fromkeys(found.model.output, np.zeros(2, np.float32))
    losses = found.model.fit(given, nothing, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    network.save(tmp_path / "net.keras")
    again = keras.models.load_model(tmp_path / "net.keras")
    before, after = (outputs(model, image(1, (64, 64))) for model in (network, again))
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


def test_it_is_registered_and_refuses_nonsense() -> None:
    entry = describe("star-dist")
    assert (entry.name, entry.task) == ("StarDist", "instance")
    for wrong in ({"output_stride": 3}, {"rays": 4}, {"detections": 0}):
        with pytest.raises(UsageError):
            StarDist(**wrong)
