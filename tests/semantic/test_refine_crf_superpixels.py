"""Alpha-expansion against brute force, and the random field over superpixels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from kseg.errors import UsageError
from kseg.inference.distributions import probabilities
from kseg.segments.borders import borders
from kseg.segments.labels import region_means
from kseg.semantic.refine.expansion import Potts, alpha_expansion, expand
from kseg.semantic.refine.superpixel_crf import SuperpixelCRF


def random_energy(seed: int, nodes: int, classes: int) -> tuple[Potts, np.ndarray]:
    """Random costs on a random graph, and a random labelling."""
    random = np.random.default_rng(seed)
    pairs = np.array(list(itertools.combinations(range(nodes), 2)))
    edges = pairs[random.random(len(pairs)) < 0.5]
    unary = random.random((nodes, classes)) * 3
    potts = Potts.rounded(unary, edges, random.random(len(edges)))
    return potts, random.integers(0, classes, nodes)


def brute_force(potts: Potts) -> int:
    """The least energy of all labellings."""
    nodes, classes = potts.unary.shape
    return min(potts.energy(np.array(labels)) for labels in itertools.product(range(classes), repeat=nodes))


@pytest.mark.parametrize("seed", range(6))
def test_two_labels_are_solved_exactly(seed: int) -> None:
    potts, start = random_energy(seed, 10, 2)
    labels, energies = alpha_expansion(potts, start)
    assert energies[-1] == potts.energy(labels) == brute_force(potts)


@pytest.mark.parametrize("seed", range(4))
def test_one_move_is_the_best_of_all_moves_to_its_label(seed: int) -> None:
    potts, start = random_energy(seed, 8, 3)
    for alpha in range(3):
        moved = expand(potts, start, alpha)
        assert set(moved[moved != start]) <= {alpha}
        candidates = (
            np.where(take, alpha, start) for take in itertools.product((False, True), repeat=len(start))
        )
        assert potts.energy(moved) == min(map(potts.energy, candidates))


@pytest.mark.parametrize("seed", range(4))
def test_energy_falls_with_every_move_and_ends_within_twice_the_minimum(seed: int) -> None:
    potts, start = random_energy(seed, 7, 4)
    labels, energies = alpha_expansion(potts, start)
    assert energies[0] == potts.energy(start)
    assert all(later < earlier for earlier, later in itertools.pairwise(energies))
    assert energies[-1] == potts.energy(labels) <= 2 * brute_force(potts)
    assert all(potts.energy(expand(potts, labels, alpha)) == energies[-1] for alpha in range(4))


def test_rounding_keeps_costs_to_a_millionth() -> None:
    random = np.random.default_rng(5)
    unary, edges = random.random((500, 11)) * 1e4, np.array([[i, i + 1] for i in range(499)])
    weights = random.random(499) * 200
    potts = Potts.rounded(unary, edges, weights)
    labels = random.integers(0, 11, 500)
    exact = unary[np.arange(500), labels].sum() + weights[labels[:-1] != labels[1:]].sum()
    assert potts.energy(labels) * potts.unit == pytest.approx(exact, rel=1e-6)
    assert potts.unary.max(axis=1).sum() + 2 * potts.weights.sum() < 2**31


def test_no_costs_and_no_edges_change_nothing() -> None:
    none = np.zeros((0, 2), np.intp)
    start = np.array([1, 0, 2])
    zero = Potts.rounded(np.zeros((3, 3)), none, np.zeros(0))
    np.testing.assert_array_equal(alpha_expansion(zero, start)[0], start)
    single = Potts.rounded(np.array([[3.0, 1.0, 2.0]]), none, np.zeros(0))
    np.testing.assert_array_equal(alpha_expansion(single, np.array([0]))[0], [1])


def test_energy_is_the_formula_of_the_paper() -> None:
    distributions = np.array([[0.7, 0.3], [0.4, 0.6]])
    image = np.zeros((2, 4, 3), np.uint8)
    image[:, 2:] = (51, 0, 0)
    labels = np.repeat([[0, 0, 1, 1]], 2, axis=0)
    crf = SuperpixelCRF()
    assert (crf.alpha, crf.beta, crf.gamma) == (0.1, 20, 200)
    potts = crf.energy(distributions, np.bincount(labels.ravel()), borders(labels, image))
    stays, turned = np.array([0, 1]), np.array([1, 1])
    assert potts.energy(stays) * potts.unit == pytest.approx(2 * 200 * np.exp(-20 * 0.2))
    assert potts.energy(turned) * potts.unit == pytest.approx(4 * np.exp(-0.1 * 0.3))
    log = SuperpixelCRF(unary="log", gamma=0).energy(distributions, np.array([4, 4]), borders(labels, image))
    assert log.energy(stays) * log.unit == pytest.approx(-4 * np.log(0.7) - 4 * np.log(0.6))


def striped() -> tuple[np.ndarray, np.ndarray]:
    """Dark beside bright in 8 x 8 blocks that differ a little, and logits with one wrong block."""
    shades = np.array([[40, 44, 200, 204], [48, 42, 208, 202], [46, 50, 206, 210]], np.uint8)
    image = np.repeat(np.kron(shades, np.ones((8, 8), np.uint8))[..., None], 3, axis=2)
    truth = (image[..., 0] > 100).astype(int)
    logits = np.eye(2, dtype=np.float32)[truth] * 3
    logits[8:16, :8] = (0.2, 0.4)
    return image, logits


def test_a_wrong_superpixel_joins_its_like_and_the_visible_edge_stays() -> None:
    image, logits = striped()
    crf = SuperpixelCRF(unary="log", gamma=2, scale=1, sigma=0, min_size=10)
    assert crf.superpixels(image).max() == 11
    assert logits.argmax(axis=-1)[10, 2] == 1
    scores = crf(image, logits)
    np.testing.assert_array_equal(scores.argmax(axis=-1), image[..., 0] > 100)


def test_scores_are_the_mean_distribution_with_the_chosen_class_first() -> None:
    image, logits = striped()
    crf = SuperpixelCRF(unary="log", gamma=2, scale=1, sigma=0, min_size=10)
    means = region_means(probabilities(logits), crf.superpixels(image))[crf.superpixels(image)]
    scores = crf(image, logits)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(np.exp(scores[10, 2]), means[10, 2, ::-1], rtol=1e-4)
    np.testing.assert_allclose(np.exp(scores[0, 0]), means[0, 0], rtol=1e-4)


def test_without_borders_the_field_is_the_superpixels_best_class() -> None:
    image, _ = striped()
    logits = np.random.default_rng(6).normal(size=(*image.shape[:2], 5)).astype(np.float32)
    crf = SuperpixelCRF(gamma=0, scale=1, sigma=0, min_size=10)
    means = region_means(probabilities(logits), crf.superpixels(image))
    np.testing.assert_array_equal(
        crf(image, logits).argmax(axis=-1), means.argmax(axis=1)[crf.superpixels(image)]
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (12, 12)])
def test_one_superpixel_keeps_its_best_class(shape: tuple[int, int]) -> None:
    logits = np.random.default_rng(7).normal(size=(*shape, 3)).astype(np.float32)
    image = np.full((*shape, 3), 9, np.uint8)
    best = probabilities(logits).reshape(-1, 3).mean(axis=0).argmax()
    assert (SuperpixelCRF()(image, logits).argmax(axis=-1) == best).all()


def test_a_tie_that_the_field_decides_is_decided_in_the_scores() -> None:
    image, logits = striped()
    logits[:, 16:] = (0, 0)
    crf = SuperpixelCRF(unary="log", gamma=2, beta=0, scale=1, sigma=0, min_size=10)
    logits[:, :16] = (0, 3)
    assert (crf(image, logits).argmax(axis=-1) == 1).all()


@pytest.mark.parametrize(
    "arguments",
    [{"alpha": -1}, {"beta": float("inf")}, {"gamma": "a"}, {"unary": "x"}, {"cycles": 0}, {"scale": -1}],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"`{next(iter(arguments))}`"):
        SuperpixelCRF(**arguments)  # type: ignore[arg-type]
