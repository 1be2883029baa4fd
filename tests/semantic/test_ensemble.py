"""Ensembles: both forms of EDeconvNet by hand, and members that look at images in different ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fake_runtime import RAW, Identity, picture, toy_spec
from numpy.typing import NDArray

from kseg.data import preprocess
from kseg.errors import UsageError
from kseg.inference import Predictor, Runtime
from kseg.semantic.inference.ensemble import (
    EnsemblePredictor,
    EnsembleRuntime,
    combine,
    renormalize,
)
from kseg.semantic.inference.proposal_predictor import ProposalPredictor
from kseg.spec import Normalization, Spec

VOC = Spec(classes=("background", "cat", "dog"), normalization=RAW)
CAFFE = Normalization(order="bgr", mean=(104.0, 116.7, 122.7), std=(1, 1, 1))
SCALED = Normalization(mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))


class Linear(Identity):
    """Logits are `factor x (normalised channels) + shift`."""

    def __init__(
        self,
        spec: Spec = VOC,
        input_size: tuple[int, int] | None = None,
        factor: float = 1.0,
        shift: float = 0.0,
    ) -> None:
        super().__init__(spec, input_size)
        self.factor, self.shift = np.float32(factor), np.float32(shift)
        self.inputs: list[NDArray] = []

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        self.shapes.append(images.shape)
        self.inputs.append(images)
        return images * self.factor + self.shift


def softmax(values: NDArray) -> NDArray:
    powers = np.exp(values - values.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def pixels(size: tuple[int, int] = (12, 16)) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)


def random_scores(count: int) -> list[NDArray[np.float32]]:
    return list(np.random.default_rng(0).normal(0, 3, (count, 5, 6, 4)).astype(np.float32))


def test_mean_is_of_probabilities() -> None:
    scores = random_scores(3)
    wanted = np.mean([softmax(values) for values in scores], axis=0)
    np.testing.assert_allclose(np.exp(combine(scores)), wanted, rtol=1e-5)
    weighted = (3 * softmax(scores[0]) + softmax(scores[1])) / 4
    np.testing.assert_allclose(np.exp(combine(scores[:2], weights=[3, 1])), weighted, rtol=1e-5)
    # A probability of 0 is a finite score.
    assert np.isfinite(combine([np.array([[1000.0, 0]], np.float32)] * 2)).all()
    # A network twice is that network.
    np.testing.assert_allclose(np.exp(combine([scores[0]] * 2)), softmax(scores[0]), rtol=1e-5)


def test_product_is_as_coded() -> None:
    first, second, third = random_scores(3)
    assert np.array_equal(combine([first, second], "product"), first * np.maximum(second, 0))
    wanted = first * np.maximum(second, 0) * np.maximum(third, 0)
    np.testing.assert_allclose(combine([first, second, third], "product"), wanted, rtol=1e-5)
    before = first.copy()
    combine([first, second], "product")
    assert np.array_equal(first, before)


def test_the_forms_disagree_where_they_should() -> None:
    """A sure first network outvotes the second in the mean; in the product the second can veto a class."""
    first, second = np.array([[[9.0, 1.0]]], np.float32), np.array([[[-1.0, 1.0]]], np.float32)
    assert combine([first, second]).argmax() == 0
    assert combine([first, second], "product").argmax() == 1


@pytest.mark.parametrize("have", [RAW, CAFFE, SCALED])
@pytest.mark.parametrize("want", [RAW, CAFFE, SCALED])
def test_input_is_brought_to_another_normalisation(have: Normalization, want: Normalization) -> None:
    image = pixels()[None]
    found = renormalize(preprocess(image, have), have, want)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, preprocess(image, want), atol=2e-4)


@pytest.mark.parametrize("form", ["mean", "product"])
def test_members_see_their_own_normalisation(form: str) -> None:
    members = [Linear(VOC.replace(normalization=CAFFE)), Linear(VOC.replace(normalization=SCALED))]
    image = pixels()
    found = Predictor(EnsembleRuntime(members, form)).logits(image)
    for member in members:
        own = preprocess(image, member.spec.normalization)
        np.testing.assert_allclose(member.inputs[0][0], own, atol=2e-4)
    wanted = combine([preprocess(image, member.spec.normalization) for member in members], form)
    np.testing.assert_allclose(found, wanted, atol=1e-2, rtol=1e-3)


def test_an_ensemble_is_a_runtime_with_the_first_spec_and_a_common_size() -> None:
    members = [Linear(), Linear(VOC.replace(normalization=SCALED), (12, 16))]
    ensemble = EnsembleRuntime(members)
    assert isinstance(ensemble, Runtime)
    assert ensemble.spec is members[0].spec
    assert ensemble.input_size == (12, 16)
    assert ensemble.name == "identity+identity"
    assert EnsembleRuntime([Linear(), Linear()]).input_size is None
    Predictor(ensemble)(pixels((30, 40)))
    assert {shape[1:3] for shape in members[0].shapes} == {(12, 16)}
    ensemble.close()
    assert all(member.closed for member in members)


def test_a_predictor_over_a_mean_of_equals_is_the_predictor() -> None:
    image = picture(np.random.default_rng(0).integers(0, 7, (30, 40)))
    alone = Predictor(Identity(), size=(20, 20), flip=True)(image)[0]
    assert np.array_equal(
        Predictor(EnsembleRuntime([Identity(), Identity()]), size=(20, 20), flip=True)(image)[0], alone
    )


@pytest.mark.parametrize(
    ("members", "arguments", "words"),
    [
        ([Linear()], {}, ["at least two", "1"]),
        ([Linear(), Linear(Spec(classes=("background", "cat", "cow")))], {}, ["dog", "network 2 has cow"]),
        ([Linear(), Linear(Spec(classes=("background", "dog", "cat")))], {}, ["order differs"]),
        ([Linear(), Linear()], {"form": "produkt"}, ["`form`", "Did you mean 'product'?"]),
        ([Linear(), Linear()], {"weights": [1]}, ["`weights`", "(2)"]),
        ([Linear(), Linear()], {"weights": [1, 0]}, ["positive"]),
        ([Linear(), Linear()], {"weights": [1, 1], "form": "product"}, ["`weights`", "mean"]),
    ],
)
def test_what_does_not_fit_together_is_named(
    members: list, arguments: dict[str, Any], words: list[str]
) -> None:
    for make in (
        lambda: EnsembleRuntime(members, **arguments),
        lambda: EnsemblePredictor([Predictor(member) for member in members], **arguments),
    ):
        with pytest.raises(UsageError) as caught:
            make()
        assert all(word in str(caught.value) for word in words), caught.value


def test_runtimes_of_different_fixed_sizes_are_refused() -> None:
    with pytest.raises(UsageError, match="8x8 and 12x16"):
        EnsembleRuntime([Linear(input_size=(12, 16)), Linear(), Linear(input_size=(8, 8))])


def test_predictors_look_at_the_image_each_in_its_own_way() -> None:
    image = pixels((24, 32))
    members = [
        Predictor(Linear(input_size=(12, 16)), resize="stretch"),
        Predictor(Linear(VOC.replace(normalization=SCALED), (10, 10))),
    ]
    ensemble = EnsemblePredictor(members, "mean", [2, 1])
    wanted = combine([member.logits(image) for member in members], "mean", [2, 1])
    assert np.array_equal(ensemble.logits(image), wanted)
    assert np.array_equal(ensemble(image)[0], wanted.argmax(-1))
    assert ensemble.size == (12, 16)
    assert ensemble.resize == "stretch"
    assert ensemble.log_probabilities
    ensemble.close()
    assert all(member.runtime.closed for member in members)  # type: ignore[attr-defined]


def test_edeconvnet_is_proposals_times_the_positive_scores_of_the_whole_image() -> None:
    image = pixels((24, 32))
    box = (2, 4, 22, 30)
    deconvnet = ProposalPredictor(
        Linear(input_size=(20, 26), shift=-90), method=lambda _: np.array([box]), enlarge=1, min_side=1
    )
    fcn = Predictor(Linear(input_size=(24, 32), shift=-120))
    ensemble = EnsemblePredictor([deconvnet, fcn], "product")
    whole = image.astype(np.float32)
    wanted = np.zeros_like(whole)
    inside = slice(2, 22), slice(4, 30)
    wanted[inside] = np.maximum(whole[inside] - 90, 0) * np.maximum(whole[inside] - 120, 0)
    np.testing.assert_allclose(ensemble.logits(image), wanted, rtol=1e-5)
    assert (ensemble(image)[0][:2] == 0).all()


def test_a_product_of_log_probabilities_is_refused() -> None:
    averaged = Predictor(Linear(input_size=(8, 8)), flip=True)
    plain = Predictor(Linear(input_size=(8, 8)))
    nested = EnsemblePredictor([plain, plain])
    for other in (averaged, nested, Predictor(EnsembleRuntime([Linear(), Linear()]))):
        with pytest.raises(UsageError, match="never positive"):
            EnsemblePredictor([plain, other], "product")
    assert EnsemblePredictor([plain, averaged], "mean").logits(pixels((8, 8))).max() <= 1e-6


def test_bias_goes_to_every_member() -> None:
    members = [Predictor(Linear(toy_spec(3), (8, 8))), Predictor(Linear(toy_spec(3), (8, 8)))]
    ensemble = EnsemblePredictor(members, "product")
    ensemble.set_bias([0, 5, -1000])
    first = pixels((8, 8)) + np.array([0, 5, -1000], np.float32)
    np.testing.assert_allclose(ensemble.logits(pixels((8, 8))), first * np.maximum(first, 0), rtol=1e-5)
