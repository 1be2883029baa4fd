"""The battery that every network which finds objects passes. Its own test file is its toy arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import pytest
from keras import ops
from truths import CASES, check_objects, image, truth, untouched

import deploy
import kseg
from kseg.data import Sample
from kseg.errors import UsageError
from kseg.layers.policy import dtype_policy
from kseg.models import create, describe, forms

CLASSES = 3
SPEC = kseg.Spec(classes=("nothing", "one", "other"), task="instance")
SIZE = (64, 64)
# Builtins that every LiteRT runtime has carry no such prefix. What calibrates int8 cannot look into a loop.
FOREIGN_OPS = ("Flex", "Custom", "VAR_HANDLE", "READ_VARIABLE", "WHILE")


@dataclass(frozen=True)
class Artefact:
    """One file that a network is exported to.

    `tolerance`: how far its scores may be from Keras'. A random network is unsure of everything: rounding
    moves its scores, and with them which objects come out. So only float32 is asked for the same objects.
    """

    format: str
    precision: str
    tolerance: float
    dynamic: str | None = None

    def __str__(self) -> str:
        return " ".join(filter(None, (self.format, self.precision, self.dynamic)))


ARTEFACTS = (
    Artefact("tflite", "float32", 1e-4), Artefact("tflite", "float16", 0.02), Artefact("tflite", "int8", 1),
    Artefact("onnx", "float32", 1e-4), Artefact("onnx", "float16", 0.02, "batch"),
    Artefact("tensorrt-rtx", "float32", 1e-3, "batch"), Artefact("tensorrt-rtx", "float16", 0.02),
)  # fmt: skip


def pictures() -> list[Sample]:
    """Noise, which int8 learns its ranges from."""
    random = np.random.default_rng(4)
    nothing = np.zeros(SIZE, np.uint8)
    return [Sample(f"{i}", random.integers(0, 256, (*SIZE, 3), np.uint8), nothing, None) for i in range(2)]


def losses_of(network: keras.Model) -> forms.LossForm:
    """The form that `fit` trains."""
    found = forms.loss_form(network)
    assert found is not None
    return found


def values(found: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: ops.convert_to_numpy(value) for name, value in found.items()}


class InstanceBattery:
    """Subclass it as `Test...`, name the architecture, give toy arguments and the names of its losses.

    `of_objects` are the losses that an image without objects leaves at zero; all `others` are never zero.
    `at_times_zero` are those that may be zero with objects, too.
    `nonsense` are arguments each of which is refused by its name.
    """

    architecture: str
    toy: ClassVar[dict[str, Any]]
    of_objects: ClassVar[set[str]]
    others: ClassVar[set[str]]
    at_times_zero: ClassVar[set[str]] = set()
    nonsense: ClassVar[tuple[dict[str, Any], ...]]
    mask: ClassVar[int] = 28
    # `make test-all` makes the others, too.
    quick: ClassVar[tuple[str, ...]] = ("tflite int8",)

    @classmethod
    def make(cls, **more: Any) -> keras.Model:
        """Build the toy network."""
        return create(cls.architecture, num_classes=CLASSES, **{**cls.toy, **more})

    @pytest.fixture(scope="class")
    def network(self) -> keras.Model:
        keras.utils.set_random_seed(0)
        network = self.make()
        network.spec = SPEC
        return network

    @pytest.fixture(scope="class")
    def form(self, network: keras.Model) -> keras.Model:
        return losses_of(network).model

    @pytest.mark.parametrize("size", [(96, 64), (70, 81)])
    def test_outputs_have_fixed_shapes(self, network: keras.Model, size: tuple[int, int]) -> None:
        found = values(network(image(2, size), training=False))
        most = self.toy["detections"]
        assert {name: value.shape for name, value in found.items()} == {
            "boxes": (2, most, 4), "scores": (2, most), "classes": (2, most),
            "masks": (2, most, self.mask, self.mask),
        }  # fmt: skip
        check_objects(found, size, CLASSES)

    @pytest.mark.parametrize(("rows", "objects", "crowds"), CASES.values(), ids=CASES)
    def test_losses_are_finite_whatever_is_there(
        self, form: keras.Model, rows: int, objects: list[int], crowds: list[int] | None
    ) -> None:
        found = values(form({forms.IMAGE: image(), **truth(rows, objects, crowds)}, training=True))
        assert set(found) == self.of_objects | self.others
        for name, value in found.items():
            assert value.shape == (2,)
            assert np.isfinite(value).all(), name
            assert (value >= 0).all(), name
        empty = np.array(objects) == 0
        for name in self.of_objects:
            assert not found[name][empty].any(), name
            assert name in self.at_times_zero or found[name][~empty].all(), name
        for name in self.others:
            assert found[name].all(), name

    def test_losses_reach_every_weight(self, network: keras.Model, form: keras.Model) -> None:
        assert untouched(form, network, {forms.IMAGE: image(), **truth(5, [4, 3])}) == []

    def test_bfloat16_gives_float32(self) -> None:
        with dtype_policy("mixed_bfloat16"):
            half = self.make()
            found = values(half(image(1), training=False))
            found |= values(losses_of(half).model({forms.IMAGE: image(), **truth(4, [2, 0])}, training=True))
        assert any(layer.compute_dtype == "bfloat16" for layer in half.layers if layer.weights)
        assert all(value.dtype == np.float32 and np.isfinite(value).all() for value in found.values())

    def test_saves_and_reloads_bit_equal(self, network: keras.Model, tmp_path: Path) -> None:
        kseg.save(network, tmp_path / "m.keras")
        again = kseg.load(tmp_path / "m.keras")
        assert again.info == network.info
        first, second = (values(model(image(1), training=False)) for model in (network, again))
        for name, value in first.items():
            np.testing.assert_array_equal(second[name], value)

    def test_it_is_registered_and_refuses_nonsense(self) -> None:
        entry = describe(self.architecture)
        assert (entry.name, entry.task) == (self.architecture, "instance")
        for wrong in self.nonsense:
            with pytest.raises(UsageError, match=f"(?i){next(iter(wrong))}"):
                self.make(**wrong)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "artefact" in metafunc.fixturenames:
            given = [
                pytest.param(made, id=str(made), marks=[] if str(made) in self.quick else [pytest.mark.slow])
                for made in ARTEFACTS
            ]
            metafunc.parametrize("artefact", given)

    def test_artefact_finds_objects(self, network: keras.Model, artefact: Artefact, tmp_path: Path) -> None:
        row = deploy.FORMATS[artefact.format]
        for module in row.exported_with:
            pytest.importorskip(module)
        path = tmp_path / f"m{row.suffix}"
        calibration = pictures() if artefact.precision == "int8" else None
        deploy.export(
            network, path, format=artefact.format, precision=artefact.precision, dynamic=artefact.dynamic,
            size=SIZE, calibration=calibration, verify=False,
        )  # fmt: skip
        spec = deploy.read_spec(path)
        assert (spec.task, spec.classes, spec.input_size) == ("instance", SPEC.classes, SIZE)
        given = image(2 if artefact.dynamic else 1, SIZE)
        try:
            runtime = deploy.load(path)
        except deploy.NoDeviceError:
            # An engine is whole without a GPU; the graph that it was built from runs anywhere.
            runtime = deploy.load(f"{path}.onnx")
        found = {name: np.array(value) for name, value in runtime.outputs(given).items()}
        if artefact.format == "tflite":
            assert not [name for name in runtime.operators() if name.startswith(FOREIGN_OPS)]
        runtime.close()
        check_objects(found, SIZE, CLASSES)
        expected = values(network(given, training=False))
        assert {name: value.shape for name, value in found.items()} == {
            name: value.shape for name, value in expected.items()
        }
        assert np.abs(found["scores"] - expected["scores"]).max() < artefact.tolerance
        if artefact.precision == "float32":
            for name, value in expected.items():
                np.testing.assert_allclose(found[name], value, atol=1e-2, err_msg=name)
