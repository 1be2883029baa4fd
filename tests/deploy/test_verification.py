"""The gate: what it counts, when it fails, what it refuses."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from toys import SIZE, build_toy, toy_sample, toy_spec

import deploy
from deploy import metadata, verification
from deploy.formats import NoDeviceError
from deploy.images import draw, spread
from kseg import models
from kseg.errors import DataError, UsageError


def test_numbers_agree_with_a_plain_count(toy, exported, val_samples):
    from kseg.inference import Predictor

    outcome = deploy.verify(exported["tflite"], reference=toy, data=val_samples)
    truth = np.stack([sample.mask for sample in val_samples])
    found = np.stack(Predictor(toy)([sample.image for sample in val_samples]))
    expected = []
    for index in range(2):
        seen = truth != 255
        both = ((truth == index) & (found == index) & seen).sum()
        expected.append(both / (((truth == index) | (found == index)) & seen).sum())
    assert [row["reference"] for row in outcome.per_class] == pytest.approx(expected)
    assert outcome.miou_reference == pytest.approx(np.mean(expected))
    assert [row["class"] for row in outcome.per_class] == list(toy.spec.classes)
    assert outcome.passed
    assert outcome.drop == pytest.approx(0, abs=0.05)
    assert outcome.agreement > 0.999
    assert outcome.rms_over_std < 1e-4
    assert outcome.images == 10


def test_an_artefact_of_another_size_and_rule_is_judged_at_its_own(toy, val_samples, tmp_path):
    import kseg

    larger, own = (72, 96), toy.spec
    file, model = tmp_path / "padded.tflite", tmp_path / "model.keras"
    deploy.export(toy, file, size=larger, resize="none", calibration=val_samples)
    assert deploy.read_spec(file).resize == "none"
    assert toy.spec is own
    outcome = deploy.verify(file, reference=toy, data=val_samples)
    asked = kseg.Predictor(toy, size=larger, resize="none")
    expected = kseg.inference.evaluate(asked, val_samples).comparable()
    assert outcome.miou_reference == pytest.approx(expected)
    assert outcome.agreement > 0.999
    stretched = kseg.inference.evaluate(kseg.Predictor(toy, size=larger), val_samples).comparable()
    assert abs(stretched - expected) > 1e-3
    # A `.keras` file beside it is run in the same way.
    kseg.save(toy, model, spec=own)
    rows = deploy.benchmark([model, file], data=val_samples, repeats=1)["rows"]
    assert [row["size"] for row in rows] == [list(larger)] * 2
    assert [row["miou"] for row in rows] == pytest.approx([expected] * 2, abs=1e-3)


def test_another_network_fails(exported, toy, val_samples):
    untrained = build_toy()
    untrained.spec = toy_spec()
    outcome = deploy.verify(exported["onnx"], reference=toy, data=val_samples, max_miou_drop=0.5)
    assert outcome.passed
    worse = deploy.verify(exported["onnx"], reference=untrained, data=val_samples)
    assert worse.rms_over_std > 0.5
    assert worse.agreement < 0.99


def test_a_ruined_artefact_fails(toy, exported, val_samples, monkeypatch):
    class Ruined:
        def __init__(self, path, threads=None):
            self._inner = metadata.load(path, threads=threads)
            self.spec, self.input_size, self.name = self._inner.spec, self._inner.input_size, "ruined"

        def __call__(self, images):
            return -self._inner(images)

        def close(self):
            self._inner.close()

    monkeypatch.setattr(verification, "load", Ruined)
    outcome = deploy.verify(exported["tflite"], reference=toy, data=val_samples, max_miou_drop=5.0)
    assert outcome.status == "FAILED"
    assert outcome.passed is False
    assert outcome.drop > 50


def test_absent_classes_count_in_neither_mean(toy, exported):
    samples = []
    for seed in range(8):
        sample = toy_sample(seed)
        sample.mask[sample.mask == 1] = 255
        samples.append(sample)
    outcome = deploy.verify(exported["tflite"], reference=toy, data=samples)
    ground, disc = outcome.per_class
    assert disc["reference"] is None
    assert disc["drop"] is None
    assert outcome.miou == pytest.approx(ground["artefact"])


def test_void_everywhere_and_bad_arguments(toy, exported, val_samples):
    void = [SimpleNamespace(name="v", image=val_samples[0].image, mask=np.full(SIZE, 255, np.uint8))]
    with pytest.raises(DataError, match="nothing to score"):
        deploy.verify(exported["tflite"], reference=toy, data=void)
    with pytest.raises(UsageError, match="`limit` must be an integer >= 8"):
        deploy.verify(exported["tflite"], reference=toy, data=val_samples, limit=3)
    with pytest.raises(UsageError, match="points >= 0"):
        deploy.verify(exported["tflite"], reference=toy, data=val_samples, max_miou_drop=-1)
    with pytest.raises(DataError, match="empty"):
        deploy.verify(exported["tflite"], reference=toy, data=[])
    with pytest.raises(UsageError, match="Data must be"):
        deploy.verify(exported["tflite"], reference=toy, data=7)
    other = build_toy()
    other.spec = toy_spec().replace(classes=("a", "b"))
    with pytest.raises(UsageError, match="other classes"):
        deploy.verify(exported["tflite"], reference=other, data=val_samples)


def test_a_reference_of_another_architecture_is_refused(tmp_path, val_samples):
    """Its answers differ for other reasons than the export, and could even score better."""
    made = {}
    for width in (0.125, 0.25):
        made[width] = models.create("unet", num_classes=2, width=width, depth=1)
        made[width].spec = toy_spec().replace(
            architecture="UNet", arch_args=dict(made[width].info.arch_args), input_size=(48, 64)
        )
    deploy.export(made[0.125], tmp_path / "m.onnx", verify=False)
    with pytest.raises(UsageError, match=r"UNet with .*'width': 0.125.*UNet with .*'width': 0.25"):
        deploy.verify(tmp_path / "m.onnx", reference=made[0.25], data=val_samples)
    same = deploy.verify(tmp_path / "m.onnx", reference=made[0.125], data=val_samples, allow_near_chance=True)
    assert same.passed


class _Constant:
    """A runtime that has learned nothing: the same class everywhere."""

    name, input_size = "constant", SIZE

    def __init__(self, spec, chosen=0):
        self.spec, self._chosen = spec, chosen

    def __call__(self, images):
        logits = np.zeros((*images.shape[:3], self.spec.num_classes), np.float32)
        logits[..., self._chosen] = 1
        return logits

    def close(self):
        pass


def test_a_reference_near_chance_fails_unless_allowed(toy, exported, val_samples, monkeypatch):
    """Its copy loses nothing, whatever the export did."""
    monkeypatch.setattr(verification, "load", lambda path, threads=None: _Constant(toy.spec))
    judge = {"reference": _Constant(toy.spec), "data": val_samples}
    outcome = deploy.verify(exported["tflite"], **judge)
    assert (outcome.passed, outcome.near_chance, outcome.drop) == (False, True, 0)
    assert "near chance" in outcome.reasons[0]
    assert f"{100 * outcome.chance:.2f} can be had without looking" in outcome.reasons[0]
    allowed = deploy.verify(exported["tflite"], **judge, allow_near_chance=True)
    assert (allowed.passed, allowed.near_chance, allowed.reasons) == (True, True, ())
    assert "near chance" in allowed.note
    trained = deploy.verify(exported["tflite"], reference=toy, data=val_samples, max_miou_drop=100)
    assert trained.near_chance is False
    assert trained.to_dict()["chance"] == trained.chance


def test_a_class_has_a_budget_of_its_own(toy, exported, val_samples, monkeypatch):
    class Shrunk:
        """Gives up the discs: the small class loses far more than the mean."""

        def __init__(self, path, threads=None):
            self._inner = metadata.load(path, threads=threads)
            self.spec, self.input_size, self.name = self._inner.spec, self._inner.input_size, "shrunk"

        def __call__(self, images):
            logits = np.array(self._inner(images))
            logits[..., 1] -= 100
            return logits

        def close(self):
            self._inner.close()

    monkeypatch.setattr(verification, "load", Shrunk)
    judge = {"reference": toy, "data": val_samples, "max_miou_drop": 100.0}
    assert deploy.verify(exported["tflite"], **judge).passed
    outcome = deploy.verify(exported["tflite"], **judge, max_class_drop=1.0)
    assert outcome.passed is False
    assert (outcome.class_budget, outcome.near_chance) == (1.0, False)
    ground, disc = outcome.per_class
    assert disc["drop"] > ground["drop"]
    assert f"lost {disc['drop']:.2f} points of 'disc'; the budget of a class is 1" in outcome.reasons[0]
    assert deploy.verify(exported["tflite"], **judge, max_class_drop=disc["drop"]).passed


@pytest.mark.parametrize("name", ["max_miou_drop", "max_class_drop"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.5])
def test_a_budget_is_a_finite_number(toy, exported, val_samples, tmp_path, name, value):
    with pytest.raises(UsageError, match=f"`{name}` must be points >= 0"):
        deploy.verify(exported["tflite"], reference=toy, data=val_samples, **{name: value})
    with pytest.raises(UsageError, match=f"`{name}` must be points >= 0"):
        deploy.export(toy, tmp_path / "m.onnx", verify=val_samples, **{name: value})
    assert list(tmp_path.iterdir()) == []


def test_few_images_are_noted(toy, exported, val_samples):
    outcome = deploy.verify(exported["tflite"], reference=toy, data=val_samples[:2])
    assert "only 2 images" in outcome.note


def test_no_device_is_neither_pass_nor_failure(toy, exported, val_samples, monkeypatch):
    def refuse(path, *, threads=None):
        raise NoDeviceError("no CUDA device")

    monkeypatch.setattr(verification, "load", refuse)
    outcome = deploy.verify(exported["tflite"], reference=toy, data=val_samples)
    assert outcome.status == "built, not run: no CUDA device"
    assert outcome.passed is None
    assert outcome.to_dict()["passed"] is None


class _Source:
    def __init__(self, **splits):
        self._samples = splits
        self.splits = {name: len(samples) for name, samples in splits.items()}
        self.spec = toy_spec()

    def samples(self, split):
        return self._samples[split]


def test_splits_fall_back_and_images_are_spread_or_drawn():
    source = _Source(train=list(range(100)), test=list(range(50)))
    images = spread(source, limit=5)
    assert (images.split, list(images)) == ("test", [0, 10, 20, 30, 40])
    assert len(spread(source)) == 50
    drawn = [list(draw(source, count=8, seed=seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 8
    with pytest.raises(DataError, match="no images in split train"):
        draw(_Source(val=[1]), count=1, seed=0)
