"""Whitening, k-means textons, and the assignment from soft to hard."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kseg.errors import UsageError
from kseg.layers import Textons
from kseg.layers.textons import kmeans, whitening

MIX = np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 0.5], [0.0, 0.0, 0.1]])


def blobs(count: int = 6, each: int = 40) -> np.ndarray:
    """Correlated values around a few centres, as a map (count, each, 3)."""
    random = np.random.default_rng(0)
    centres = random.normal(0, 4, (count, 1, 3))
    return ((centres + random.normal(0, 0.2, (count, each, 3))) @ MIX + [50, 0, -3]).astype("float32")


def adapted(**arguments) -> tuple[Textons, np.ndarray]:
    layer, values = Textons(6, **arguments), blobs()[None]
    layer.build(values.shape)
    layer.adapt(values)
    return layer, values


def shares(layer: Textons, values: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(layer(values))


def test_whitened_values_have_zero_mean_and_unit_covariance() -> None:
    values = blobs().reshape(-1, 3)
    mean, matrix = whitening(values)
    white = (values - mean) @ matrix
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(np.cov(white, rowvar=False), np.eye(3), atol=1e-5)


def test_shares_are_the_softmax_of_distances() -> None:
    layer, values = adapted(soft=0.7)
    mean, matrix, centres = (
        keras.ops.convert_to_numpy(value) for value in (layer.mean, layer.whitening, layer.centres)
    )
    z = (values - mean) @ matrix
    powers = np.exp(-((z[..., None, :] - centres) ** 2).sum(axis=-1) / 0.7)
    np.testing.assert_allclose(shares(layer, values), powers / powers.sum(axis=-1, keepdims=True), atol=1e-4)


def test_the_hard_limit_is_the_label_of_kmeans() -> None:
    vq = pytest.importorskip("scipy.cluster.vq")
    layer, values = adapted(hard=1e-4)
    layer.anneal(1.0)
    mean, matrix, centres = (
        keras.ops.convert_to_numpy(value) for value in (layer.mean, layer.whitening, layer.centres)
    )
    labels, _ = vq.vq(((values - mean) @ matrix).reshape(-1, 3), centres)
    found = shares(layer, values).reshape(-1, 6)
    assert found.argmax(axis=-1).tolist() == labels.tolist()
    assert np.mean(found.max(axis=-1) > 0.999) > 0.98
    assert len(set(labels.tolist())) == 6


def test_kmeans_finds_the_blobs_and_the_same_ones_again() -> None:
    values = blobs()
    centres = kmeans(values.reshape(-1, 3), 6, seed=1)
    away = np.linalg.norm(centres[:, None] - values.mean(axis=1), axis=-1)
    assert sorted(away.argmin(axis=0).tolist()) == [*range(6)]
    np.testing.assert_array_equal(centres, kmeans(values.reshape(-1, 3), 6, seed=1))


def test_annealing_goes_from_soft_to_hard_in_equal_ratios() -> None:
    layer, values = adapted(soft=2.0, hard=0.02)
    sharpness = []
    for progress, expected in ((0.0, 2.0), (0.5, 0.2), (1.0, 0.02), (7.0, 0.02)):
        layer.anneal(progress)
        assert float(keras.ops.convert_to_numpy(layer.temperature)) == pytest.approx(expected, rel=1e-5)
        sharpness.append(shares(layer, values).max(axis=-1).mean())
    assert sharpness[0] < sharpness[1] < sharpness[2] == sharpness[3]


def test_without_adapt_it_takes_the_given_offset_and_scale() -> None:
    layer = Textons(5, offset=(50.0, 0.0, -3.0), scale=2.0, seed=3)
    values = blobs()[None]
    found = shares(layer, values)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer.whitening), np.eye(3) / 2)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer.mean), [50, 0, -3])


@pytest.mark.parametrize(("learnable", "count"), [(False, 0), (True, 18)])
def test_only_the_textons_are_ever_trained(learnable: bool, count: int) -> None:
    layer, _ = adapted(learnable=learnable)
    assert sum(int(np.prod(weight.shape)) for weight in layer.trainable_weights) == count
    assert [weight.name for weight in layer.weights if weight.name == "temperature"]


def test_errors() -> None:
    layer, values = adapted()
    with pytest.raises(UsageError, match=r"as many distinct values as textons, 6\. Received: 4 values"):
        layer.adapt(values[:, :1, :4])
    with pytest.raises(UsageError, match=r"values \(\.\.\., 3\)"):
        layer.adapt(values[..., :2])
    with pytest.raises(UsageError, match="integer >= 2"):
        Textons(1)
    with pytest.raises(UsageError, match="0 < hard <= soft"):
        Textons(3, soft=0.1, hard=1.0)
