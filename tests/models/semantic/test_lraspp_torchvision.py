"""LR-ASPP computes torchvision's numbers; files that were written before it did keep their meaning."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import deploy
import kseg
from kseg.errors import UsageError
from kseg.models import LRASPP, create, rebuild
from kseg.training import TrainConfig
from kseg.training.starting_weights import init_from, settle_versions

REFERENCES = Path(__file__).resolve().parents[2] / "references"
sys.path.insert(0, str(REFERENCES))
import torchvision_weights  # noqa: E402

CLASSES, SEED, SIZE = 4, 7, (48, 64)
SMALL: dict[str, Any] = {"num_classes": 3, "encoder": "mobilenetv3small", "width": 0.25}
SPEC = kseg.Spec(classes=("a", "b", "c"), input_size=(48, 64))


def with_torchvisions_weights(model: keras.Model) -> keras.Model:
    """Fill the network with the recorded weights, kernels turned by 180 degrees (see LRASPP's docstring)."""
    drawn = torchvision_weights.draw(CLASSES, SEED)
    head = {
        "head_conv": "classifier.cbr.0",
        "head_bn": "classifier.cbr.1",
        "gate_weights": "classifier.scale.1",
        "score_low": "classifier.low_classifier",
        "score_high": "classifier.high_classifier",
    }
    backbone = [values for name, values in drawn.items() if name.startswith("backbone")]
    layers = [layer for layer in model.layers if layer.weights and layer.name not in head]
    pairs = list(zip(layers, backbone, strict=True))
    pairs += [(model.get_layer(name), drawn[given]) for name, given in head.items()]
    for layer, (first, *rest) in pairs:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            first = first.transpose(2, 3, 0, 1)
        elif first.ndim == 4:
            first = first.transpose(2, 3, 1, 0)
        layer.set_weights([first[::-1, ::-1] if first.ndim == 4 else first, *rest])
    return model


def torchvision_error(**arguments: Any) -> float:
    """Largest error of a logit, relative to the largest logit."""
    with np.load(REFERENCES / "torch.npz") as recorded:
        expected = recorded["lraspp"]
    model = with_torchvisions_weights(create("LRASPP", num_classes=CLASSES, **arguments))
    turned = torchvision_weights.image(SEED, SIZE)[:, ::-1, ::-1].copy()
    found = keras.ops.convert_to_numpy(model(turned, training=False))[:, ::-1, ::-1]
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def as_before(path: Path) -> Path:
    """Take out of a file what earlier versions did not write."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    record = json.loads(members["kseg.json"])
    del record["arch_args"]["variant"]
    members["kseg.json"] = json.dumps(record).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert "variant" not in kseg.saving.read_spec(path).arch_args
    return path


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> tuple[keras.Model, Path]:
    """A network as kseg built it first, and its file as it was written then."""
    keras.utils.set_random_seed(2)
    model = LRASPP(**SMALL, variant="late")
    path = tmp_path_factory.mktemp("old") / "old.keras"
    kseg.save(model, path, SPEC)
    return model, as_before(path)


def answer(model: keras.Model) -> np.ndarray:
    picture = torchvision_weights.image(1, SIZE)
    return keras.ops.convert_to_numpy(model(picture, training=False))


def test_ported_weights_give_torchvisions_logits() -> None:
    assert torchvision_error() < 2e-6


def test_the_late_variant_does_not() -> None:
    assert torchvision_error(variant="late") > 1e-2


def test_variant_is_one_of_two() -> None:
    with pytest.raises(UsageError, match=r"`variant` must be one of .*torchvision"):
        LRASPP(**SMALL, variant="early")


def test_an_old_file_keeps_its_meaning(old: tuple[keras.Model, Path]) -> None:
    loaded = kseg.load(old[1])
    np.testing.assert_array_equal(answer(loaded), answer(old[0]))
    assert loaded.info.arch_args["variant"] == loaded.spec.arch_args["variant"] == "late"
    again = rebuild(loaded, dropout=0.5)
    np.testing.assert_array_equal(answer(again), answer(old[0]))
    assert again.info.arch_args["variant"] == "late"
    with pytest.raises(UsageError, match="learned its weights with variant='late'"):
        rebuild(loaded, variant="torchvision")


def test_an_old_artefact_fits_its_model(old: tuple[keras.Model, Path], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    artefact = tmp_path / "old.onnx"
    deploy.export(kseg.load(old[1]), artefact, verify=False)
    spec = deploy.read_spec(artefact)
    kept = {key: value for key, value in spec.arch_args.items() if key != "variant"}
    deploy.embed(artefact, spec.replace(arch_args=kept))
    random = np.random.default_rng(0)
    samples = [
        kseg.data.Sample(
            f"{index}",
            random.integers(0, 255, (*SIZE, 3), dtype="uint8"),
            random.integers(0, 3, SIZE, dtype="uint8"),
            None,
        )
        for index in range(8)
    ]
    assert deploy.verify(artefact, reference=old[1], data=samples).agreement == 1
    new = LRASPP(**SMALL)
    new.spec = kseg.save(new, tmp_path / "new.keras", SPEC)
    with pytest.raises(UsageError, match="Give the model it was exported from"):
        deploy.verify(artefact, reference=new, data=samples)


def test_a_crf_over_an_old_network_keeps_its_meaning(tmp_path: Path) -> None:
    arguments = {"num_classes": 3, "encoder": "mobilenetv3small", "base": "LRASPP", "window": 3}
    model = create("CRFRNN", **arguments, base_args={"width": 0.25, "variant": "late"})
    path = tmp_path / "crf.keras"
    kseg.save(model, path, SPEC)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    record = json.loads(members["kseg.json"])
    record["arch_args"]["base_args"] = {"width": 0.25}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**members, "kseg.json": json.dumps(record).encode()}.items():
            archive.writestr(name, content)
    loaded = kseg.load(path)
    again = rebuild(loaded, test_iterations=2)
    assert again.info.arch_args["base_args"] == {"width": 0.25, "variant": "late"}
    assert create("CRFRNN", **arguments).info.arch_args["base_args"] == {"variant": "torchvision"}
    with pytest.raises(UsageError, match="learned its weights with variant='late'"):
        rebuild(loaded, base_args={"width": 0.25})


def test_training_from_an_old_file_or_run_goes_on_with_its_variant(old: tuple[keras.Model, Path]) -> None:
    fresh = TrainConfig(data="D", model="lraspp", out="R")
    given = {"num_classes": 3, "width": 0.25}
    assert settle_versions("LRASPP", given, fresh, None) == {**given, "variant": "torchvision"}
    started = TrainConfig(data="D", model="lraspp", out="R", init_from=str(old[1]))
    assert settle_versions("LRASPP", given, started, None)["variant"] == "late"
    asked = {**given, "variant": "torchvision"}
    assert settle_versions("LRASPP", asked, started, None)["variant"] == "torchvision"
    assert settle_versions("FCN8s", {"num_classes": 3}, started, None) == {"num_classes": 3}
    resumed = {"resolved": {"arguments": given}}
    assert settle_versions("LRASPP", given, fresh, resumed)["variant"] == "late"


def test_weights_of_the_other_variant_are_said(old: tuple[keras.Model, Path]) -> None:
    lines: list[str] = []
    init_from(LRASPP(**SMALL), str(old[1]), lines.append)
    assert "has learned its weights with variant='late', and this network has 'torchvision'" in lines[0]
    lines.clear()
    init_from(LRASPP(**SMALL, variant="late"), str(old[1]), lines.append)
    assert len(lines) == 1
