"""StarDist: outputs of fixed shapes, losses whatever an image holds, and circles that it learns to find."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import keras
import numpy as np
from instance_battery import InstanceBattery, losses_of, values
from truths import image, truth

from kseg.models import StarDist, forms


class TestStarDist(InstanceBattery):
    architecture = "StarDist"
    toy: ClassVar = {"width": 0.0625, "rays": 8, "detections": 12}
    of_objects: ClassVar = {"rays", "class"}
    others: ClassVar = {"object", "inside"}
    nonsense = ({"output_stride": 3}, {"rays": 4}, {"rays": 10**9}, {"detections": 0}, {"detections": 10**9})


def test_a_few_steps_help_and_are_saved(tmp_path: Path) -> None:
    """The other stride, and stars without the map of what is inside."""
    keras.utils.set_random_seed(0)
    network = StarDist((64, 64, 3), width=0.0625, rays=8, detections=6, output_stride=4, refine=False)
    found = losses_of(network)
    assert set(found.model.output) == {"object", "inside", "rays"}
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
    before, after = (values(model(image(1, (64, 64)), training=False)) for model in (network, again))
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
