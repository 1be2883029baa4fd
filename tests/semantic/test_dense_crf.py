"""The dense CRF against the O(N^2) mean field, its energy, its presets, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy")

from kseg.errors import DataError, UsageError
from kseg.semantic.refine.dense_crf import (
    PRESETS,
    DenseCRF,
    Kernel,
    Preset,
    bilateral_filter,
    free_energy,
    mean_field,
    normalized,
    spatial_filter,
)
from kseg.semantic.refine.permutohedral import Permutohedral, _corners, _elevate

Array = np.ndarray


def gaussian(features: Array) -> Array:
    """The kernel between all pairs of points, float64 `(N, N)`."""
    features = features.astype("float64")
    return np.exp(-0.5 * ((features[:, None] - features[None]) ** 2).sum(-1))


def exact_kernels(image: Array, crf: DenseCRF) -> tuple[Array, Array]:
    """Bilateral and spatial kernel of a small image, normalised, `(N, N)`."""
    height, width, _ = image.shape
    place = np.stack(np.mgrid[:height, :width], -1).reshape(-1, 2)
    values = crf.parameters
    color = image.reshape(-1, 3) / values.theta_beta
    kernels = []
    for kernel in (
        gaussian(np.hstack([place / values.theta_alpha, color])),
        gaussian(place / values.theta_gamma),
    ):
        sums = kernel.sum(1)
        after = values.normalization == "after"
        kernels.append(kernel / sums[:, None] if after else kernel / np.sqrt(np.outer(sums, sums)))
    return kernels[0], kernels[1]


def brute_force_mean_field(image: Array, logits: Array, crf: DenseCRF, labels: Array | None = None) -> Array:
    """Q of the CRF over all pairs of pixels, Potts or with `labels` `(C, C)`, float64 `(H, W, C)`."""
    bilateral, spatial = exact_kernels(image, crf)
    unary = logits.reshape(-1, logits.shape[-1]).astype("float64")
    if labels is None:
        labels = 1 - np.eye(logits.shape[-1])
    q = softmax(unary)
    for _ in range(crf.parameters.iterations):
        message = crf.parameters.w1 * bilateral @ q + crf.parameters.w2 * spatial @ q
        q = softmax(unary - message @ labels.T)
    return q.reshape(logits.shape)


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def two_colours(side: int = 16, noise: float = 0.3) -> tuple[Array, Array, Array]:
    """Truth, image with an edge in column 6, and logits that are wrong in a share `noise` of the pixels."""
    random = np.random.default_rng(4)
    truth = np.zeros((side, side), int)
    truth[:, 6:] = 1
    colors = np.array([[200, 60, 40], [40, 80, 190]])
    image = np.clip(colors[truth] + random.normal(0, 5, (side, side, 3)), 0, 255).astype("uint8")
    said = np.where(random.random(truth.shape) < noise, 1 - truth, truth)
    return truth, image, 2 * np.eye(2, dtype="float32")[said]


def textured(side: int = 16, classes: int = 3) -> tuple[Array, Array]:
    """A smooth image with some noise, and random logits."""
    random = np.random.default_rng(6)
    rows, columns = np.mgrid[:side, :side] / side
    image = 120 + 60 * np.stack([np.sin(4 * rows), np.cos(5 * columns), rows * columns], -1)
    image = np.clip(image + random.normal(0, 4, image.shape), 0, 255).astype("uint8")
    return image, random.normal(size=(side, side, classes)).astype("float32")


@pytest.mark.parametrize("normalization", ["symmetric", "after"])
def test_is_near_the_mean_field_over_all_pairs(normalization: str) -> None:
    image, logits = textured()
    crf = DenseCRF(
        "pydensecrf", w1=4, theta_alpha=8, theta_beta=30, theta_gamma=2, normalization=normalization
    )
    expected = brute_force_mean_field(image, logits, crf)
    found = np.exp(crf(image, logits))
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    # The lattice is an approximation: its kernel is wider and flatter than the Gaussian.
    assert np.abs(found - expected).mean() < 0.02
    assert (found.argmax(-1) == expected.argmax(-1)).mean() > 0.97
    # What the CRF changes is many times what the lattice misses.
    assert np.abs(softmax(logits) - expected).mean() > 0.15


@pytest.mark.parametrize("classes", [150, 300])
def test_hundreds_of_classes(classes: int) -> None:
    image, logits = textured(12, 3)
    crf = DenseCRF("deconvnet", theta_alpha=5, theta_gamma=2)
    # Three real classes, the first, one in the middle and the last, among others that are nowhere.
    places = [0, classes // 2, classes - 1]
    many = np.full((*logits.shape[:2], classes), -200, "float32")
    many[..., places] = logits
    scores = crf(image, many)
    assert (scores.shape, scores.dtype) == (many.shape, "float32")
    np.testing.assert_allclose(np.exp(scores)[..., places], np.exp(crf(image, logits)), atol=1e-5)


def test_spatial_kernel_alone_is_exact() -> None:
    image, logits = textured()
    crf = DenseCRF("deconvnet", w1=0, theta_gamma=2.5)
    np.testing.assert_allclose(
        np.exp(crf(image, logits)), brute_force_mean_field(image, logits, crf), atol=2e-3
    )


def test_exact_kernels_give_the_brute_force_result_to_rounding() -> None:
    image, logits = textured()
    crf = DenseCRF("pydensecrf", theta_alpha=8, theta_beta=30)
    *_, log_q = mean_field(logits, exact(image, crf), iterations=crf.parameters.iterations)
    np.testing.assert_allclose(np.exp(log_q), brute_force_mean_field(image, logits, crf), atol=1e-5)


def exact(image: Array, crf: DenseCRF) -> list[Kernel]:
    """The CRF's kernels without any approximation."""

    def filter(kernel: Array) -> Any:
        return lambda v: (kernel @ v.reshape(len(kernel), -1)).reshape(v.shape).astype("float32")

    weights = (crf.parameters.w1, crf.parameters.w2)
    return [Kernel(w, filter(k)) for w, k in zip(weights, exact_kernels(image, crf), strict=True)]


@pytest.mark.parametrize("damping", [0.0, 0.5])
@pytest.mark.parametrize("labels", [None, "distance"])
def test_no_iteration_raises_the_free_energy(damping: float, labels: str | None) -> None:
    image, logits = textured()
    crf = DenseCRF("deeplab2", w1=10, theta_beta=30, iterations=15, damping=damping)
    # Truncated distances of labels 0, 1, 2: another cost than Potts, and also a negative definite one.
    matrix = None if labels is None else np.array([[0, 1, 2], [1, 0, 1], [2, 1, 0]], "float32")
    kernels = exact(image, crf)
    steps = mean_field(logits, kernels, iterations=15, damping=damping, compatibility=matrix)
    energies = np.array([free_energy(log_q, logits, kernels, matrix) for log_q in steps])
    assert energies[-1] < energies[0] - 20
    assert np.diff(energies).max() < 1e-3


def test_the_lattice_lowers_the_energy_as_far_as_it_is_symmetric() -> None:
    image, logits = textured()
    energies = DenseCRF("deeplab2", theta_beta=30, iterations=15, damping=0.5).energies(image, logits)
    assert len(energies) == 16
    assert np.diff(energies).max() < 1e-3 * (energies[0] - energies[-1])


def test_free_energy_is_the_divergence_from_the_gibbs_distribution() -> None:
    """Two pixels, two labels: KL(Q || P) over all four labellings, and the constant log Z."""
    random = np.random.default_rng(8)
    logits = random.normal(size=(1, 2, 2)).astype("float32")
    kernel = np.array([[0.7, 0.4], [0.4, 0.7]])
    kernels = [Kernel(1.5, lambda v: (kernel @ v.reshape(2, -1)).reshape(v.shape).astype("float32"))]
    unary = -np.log(softmax(logits.astype("float64")))[0]
    cost = {(a, b): unary[0, a] + unary[1, b] - 1.5 * 0.4 * (a == b) for a in (0, 1) for b in (0, 1)}
    differences = []
    for _ in range(3):
        q = softmax(random.normal(size=(1, 2, 2)))
        expected = sum(
            q[0, 0, a] * q[0, 1, b] * (np.log(q[0, 0, a] * q[0, 1, b]) + cost[a, b]) for a, b in cost
        )
        # The release's own-pixel term, which the Gibbs distribution of the paper does not have.
        expected -= 1.5 * 0.5 * 0.7 * (q**2).sum()
        found = free_energy(np.log(q).astype("float32"), logits, kernels)
        differences.append(found - expected)
    np.testing.assert_allclose(differences, 0, atol=1e-5)


def test_noise_goes_and_the_edge_stays() -> None:
    truth, image, logits = two_colours()
    assert (logits.argmax(-1) != truth).mean() > 0.2
    scores = DenseCRF("pydensecrf", w1=12, w2=1, theta_alpha=20)(image, logits)
    np.testing.assert_array_equal(scores.argmax(-1), truth)
    assert scores.dtype == np.float32


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_cleans_the_two_colours_and_can_follow_itself(preset: str) -> None:
    truth, image, logits = two_colours(noise=0.15)
    crf = DenseCRF(preset)
    once = crf(image, logits)
    assert (once.argmax(-1) != truth).mean() < (logits.argmax(-1) != truth).mean()
    assert np.isfinite(crf(image, once)).all()


def test_uniform_logits_keep_their_argmax() -> None:
    _, image, _ = two_colours()
    logits = np.tile(np.array([0.2, 1.0, 0.6], "float32"), (16, 16, 1))
    assert (DenseCRF()(image, logits).argmax(-1) == 1).all()


@pytest.mark.parametrize("arguments", [{"w1": 0, "w2": 0}, {"iterations": 0}])
def test_without_kernels_or_iterations_it_is_the_softmax(arguments: dict[str, Any]) -> None:
    image, logits = textured()
    scores = DenseCRF(**arguments)(image, logits)
    np.testing.assert_allclose(np.exp(scores), softmax(logits.astype("float64")), atol=1e-6)


def test_compatibility_replaces_potts() -> None:
    image, logits = textured()
    potts = DenseCRF(iterations=3)
    same = DenseCRF(iterations=3, compatibility=-np.eye(3))
    np.testing.assert_allclose(same(image, logits), potts(image, logits), atol=1e-5)
    labels = np.array([[0, 1, 4], [1, 0, 1], [4, 1, 0]])
    crf = DenseCRF("deconvnet", w1=0, iterations=3, compatibility=labels)
    expected = brute_force_mean_field(image, logits, crf, labels)
    np.testing.assert_allclose(np.exp(crf(image, logits)), expected, atol=5e-3)


def test_arguments_override_the_preset() -> None:
    crf = DenseCRF("crf-rnn", theta_beta=7, iterations=2)
    values = crf.parameters
    assert (values.w1, values.theta_alpha, values.theta_beta, values.w2) == (5, 160, 7, 3)
    assert (values.iterations, values.normalization) == (2, "after")


def test_sheet_of_presets() -> None:
    """All figures: the releases' files', and those recalled or given as a range (docs/provenance.md)."""
    assert set(PRESETS) == {"msrc", "deeplab1", "deeplab2", "deconvnet", "crf-rnn", "pydensecrf"}
    assert PRESETS["deeplab2"] == Preset(4, 67, 3, 3, 1, 10, "symmetric")
    assert PRESETS["deconvnet"] == Preset(5, 20, 3, 3, 3, 10, "symmetric")
    assert PRESETS["pydensecrf"] == Preset(10, 80, 13, 3, 3, 5, "symmetric")
    assert PRESETS["crf-rnn"] == Preset(5, 160, 3, 3, 3, 10, "after")
    assert PRESETS["msrc"] == Preset(10, 61, 11, 1, 1, 10, "symmetric")
    first = PRESETS["deeplab1"]
    assert (first.w2, first.theta_gamma, first.iterations, first.normalization) == (3, 3, 10, "symmetric")
    assert 5 <= first.w1 <= 10
    assert 50 <= first.theta_alpha <= 100
    assert 3 <= first.theta_beta <= 10


def test_a_kernel_wider_than_the_image_costs_no_more_than_the_image() -> None:
    values = np.random.default_rng(0).random((9, 12, 2), dtype=np.float32)
    everywhere = spatial_filter(1e6)(values)
    np.testing.assert_allclose(everywhere, np.broadcast_to(values.sum((0, 1)), values.shape), rtol=1e-4)


@pytest.mark.parametrize("dimensions", [2, 5])
def test_lattice_filters_like_the_gaussian(dimensions: int) -> None:
    random = np.random.default_rng(0)
    points = (random.normal(size=(1500, dimensions)) * (1.5 if dimensions == 2 else 0.5)).astype("float32")
    values = (np.sin(points[:, :1]) + random.normal(0, 0.5, (1500, 2))).astype("float32")
    kernel = gaussian(points)
    expected = kernel @ values / kernel.sum(1, keepdims=True)
    lattice = Permutohedral(points)
    found = lattice(values) / lattice(np.ones((1500, 1), "float32"))
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.98
    # Five dimensions, as in the release, blur a little too widely.
    assert np.abs(found - expected).mean() < 0.25 * np.abs(expected).mean()


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_points_are_the_weighted_means_of_their_corners(dimensions: int) -> None:
    points = np.random.default_rng(1).normal(size=(500, dimensions)).astype("float32") * 5
    corners, weights = _corners(points)
    assert weights.min() > -1e-6
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
    whole = np.concatenate([corners, -corners.sum(-1, keepdims=True)], axis=-1)
    # The coordinates of a lattice point leave one remainder, and each corner of a simplex another.
    remainders = whole % (dimensions + 1)
    assert (remainders == remainders[..., :1]).all()
    np.testing.assert_array_equal(
        np.sort(remainders[..., 0], axis=1), np.tile(range(dimensions + 1), (500, 1))
    )
    np.testing.assert_allclose((weights[..., None] * whole).sum(1), _elevate(points), atol=1e-4)


def test_lattice_is_linear() -> None:
    lattice = Permutohedral(np.random.default_rng(1).normal(size=(50, 3)).astype("float32") * 4)
    one, other = np.random.default_rng(2).normal(size=(2, 50, 2)).astype("float32")
    np.testing.assert_allclose(lattice(one + 2 * other), lattice(one) + 2 * lattice(other), atol=1e-4)


def test_equal_points_share_what_they_have() -> None:
    lattice = Permutohedral(np.ones((7, 5), "float32"))
    found = lattice(np.arange(7, dtype="float32")[:, None])
    np.testing.assert_allclose(found, np.full((7, 1), found[0, 0]), rtol=1e-6)
    assert lattice.corners == 6


def test_filters_of_an_image() -> None:
    _, logits = textured(8)
    smooth = normalized(spatial_filter(1.0), (8, 8), "after")
    np.testing.assert_allclose(smooth(np.full((8, 8, 1), 3, "float32")), 3, atol=1e-5)
    edge = np.zeros((8, 8, 3), "uint8")
    edge[:, 4:] = 255
    separate = normalized(bilateral_filter(edge, 20, 5), (8, 8), "after")
    halves = separate((edge[..., :1] > 0).astype("float32"))
    np.testing.assert_array_equal(halves > 0.5, edge[..., :1] > 0)
    assert np.abs(halves - 0.5).min() > 0.49
    assert smooth(logits).shape == logits.shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "deeplab3"}, "`preset` must be one of .*Did you mean 'deeplab"),
        ({"theta_beta": 0}, "`theta_beta` must be a number"),
        ({"iterations": -1}, "`iterations` must be a whole number"),
        ({"damping": 1.0}, "`damping` must be a number >= 0 and <= 0.999"),
        ({"normalization": "before"}, "`normalization` must be one of symmetric, after"),
        ({"compatibility": [[0, 1]]}, "square matrix"),
    ],
)
def test_refuses_values_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DenseCRF(**arguments)


def test_refuses_inputs_that_do_not_fit() -> None:
    image, logits = textured()
    with pytest.raises(UsageError, match="same size"):
        DenseCRF()(image[:-1], logits)
    with pytest.raises(UsageError, match="`compatibility` must be 3 x 3"):
        DenseCRF(compatibility=np.eye(2))(image, logits)
    with pytest.raises(DataError, match="finite logits"):
        DenseCRF()(image, np.where(logits > 1, np.nan, logits))
    with pytest.raises(UsageError, match="finite features"):
        Permutohedral(np.full((3, 2), np.nan))
    with pytest.raises(UsageError, match="Use larger theta_alpha"):
        Permutohedral(1e5 * np.random.default_rng(0).normal(size=(9, 5)))
