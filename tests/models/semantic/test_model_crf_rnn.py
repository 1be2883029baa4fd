"""CRF-RNN through the battery over a small FCN-8s; weights of a base, its heads, and what is refused."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
import pytest
from battery import ModelBattery, batch, four_samples

from kseg.errors import UsageError
from kseg.losses import PixelCrossEntropy
from kseg.models import create, forms, rebuild, transfer
from kseg.models.forms import Head
from kseg.models.semantic.crf_rnn import CRFRNN, UNARY

BASE: dict[str, Any] = {"width": 0.125, "dropout": 0.0}
CRF: dict[str, Any] = {"window": 3, "iterations": 2, "test_iterations": 3}


class TestCRFRNN(ModelBattery):
    architecture = "CRFRNN"
    toy: ClassVar = {
        "encoder": "resnet18",
        "base_args": BASE,
        "theta_beta": 20,
        **CRF,
    }
    rate = 1e-2
    steps = 30


def small(**changes: Any) -> keras.Model:
    arguments = {"num_classes": 3, "encoder": "resnet18", "base_args": BASE, **CRF, **changes}
    return CRFRNN((None, None, 3), **arguments)


@pytest.fixture(scope="module")
def base() -> keras.Model:
    """A small FCN-8s whose score layers are no longer zero."""
    keras.utils.set_random_seed(0)
    model = create("FCN8s", num_classes=3, encoder="resnet18", **BASE)
    for layer in model.layers:
        if layer.name.startswith("score"):
            layer.set_weights([0.3 * np.random.default_rng(1).normal(size=w.shape) for w in layer.weights])
    return model


def image() -> np.ndarray:
    return batch(four_samples(45, 61))[0][:1]


def test_adds_three_square_matrices_to_the_base(base: keras.Model) -> None:
    model = small()
    assert model.count_params() - base.count_params() == 3 * 3**2
    names = [layer.name for layer in base.layers]
    assert [layer.name for layer in model.layers] == [*names[:-1], UNARY, "logits"]
    assert model.info.stride == base.info.stride


def test_a_trained_base_loads_by_layer_name_and_zero_kernels_leave_its_logits(base: keras.Model) -> None:
    model = small(w1=0, w2=0)
    copied = transfer(base, model)
    assert set(copied) == {layer.name for layer in base.layers if layer.weights}
    expected = np.asarray(base(image(), training=False))
    assert np.ptp(expected) > 0.1
    np.testing.assert_array_equal(np.asarray(model(image(), training=False)), expected)


def test_the_crf_changes_what_the_base_says(base: keras.Model) -> None:
    model = small(theta_beta=20)
    transfer(base, model)
    unary = np.asarray(base(image(), training=False))
    assert np.abs(np.asarray(model(image(), training=False)) - unary).max() > 0.1


def test_other_iterations_rebuild_over_the_same_weights(base: keras.Model) -> None:
    model = small(theta_beta=20)
    transfer(base, model)
    longer = rebuild(model, test_iterations=6)
    changed = small(theta_beta=20, test_iterations=6)
    transfer(base, changed)
    outputs = [np.asarray(net(image(), training=False)) for net in (model, longer, changed)]
    np.testing.assert_allclose(outputs[1], outputs[2], atol=1e-6)
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-4


def test_one_training_step_moves_base_and_matrices_and_lowers_the_loss() -> None:
    keras.utils.set_random_seed(0)
    plain = {"width": 0.125, "depth": 1, "dropout": 0.0}
    model = small(base="UNet", encoder=None, base_args=plain, theta_beta=20)
    images, masks = batch(four_samples(24, 32, 8))
    model.compile(keras.optimizers.SGD(0.01), PixelCrossEntropy(ignore_id=255), run_eagerly=True)
    trained = [model.get_layer(name) for name in ("down0_1_conv", "score", "logits")]
    before = [weight for layer in trained for weight in layer.get_weights()]
    loss = model.train_on_batch(images, masks)
    assert model.train_on_batch(images, masks) < loss
    after = [weight for layer in trained for weight in layer.get_weights()]
    assert len(after) == 1 + 2 + 3
    for old, new in zip(before, after, strict=True):
        assert np.abs(new - old).max() > 0


def test_other_bases_at_half_resolution() -> None:
    model = small(base="UNet", encoder=None, base_args={"width": 0.125, "depth": 1}, stride=2, dilation=2)
    assert model(image(), training=False).shape == (1, 45, 61, 3)
    assert model.info.arch_args["base_args"] == {"width": 0.125, "depth": 1}


def test_heads_of_the_base_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    import kseg.models.semantic.crf_rnn as module

    def with_head(name: str, **arguments: Any) -> keras.Model:
        model = create(name, **arguments)
        return forms.attach(model, heads=[Head("coarse", model.get_layer("score_fr").output, 0.5)])

    monkeypatch.setattr(module, "create", with_head)
    model = small()
    (head,) = forms.heads(model)
    assert (head.name, head.weight) == ("coarse", 0.5)
    outputs = forms.with_heads(model)(image(), training=False)
    assert list(outputs) == ["logits", "coarse"]
    assert outputs["coarse"].shape == (1, 2, 2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"base": "crf-rnn"}, "another network than CRFRNN"),
        ({"base": "FCN9s"}, "no model 'FCN9s'.*Did you mean"),
        ({"base_args": {"num_classes": 4}}, "`num_classes` is an argument of CRFRNN"),
        ({"base_args": {"widht": 1}}, "FCN8s has no argument `widht`.*Did you mean 'width'"),
        ({"base": "LRASPP", "encoder": "alexnett"}, "alexnett"),
        ({"encoder": None, "weights": "imagenet"}, "name the `encoder` too"),
        ({"encoder": "vgg16", "weights": "imagenet"}, r"Add std=\[1.0, 1.0, 1.0\]"),
        ({"base_args": 5}, "`base_args` must map names"),
        ({"base_args": "x"}, "`base_args` must map names"),
        ({"window": 4}, "`window` must be odd"),
        ({"theta_beta": 0}, "`theta_beta` must be a positive number"),
        ({"std": (1.0, 2.0)}, "`std` must be one number or one per channel"),
    ],
)
def test_refuses_what_does_not_fit(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        small(**arguments)
