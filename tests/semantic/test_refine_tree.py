"""The segmentation tree, the purity cover, and the classifier of segments."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from fake_runtime import toy_spec

from kseg import saving
from kseg.errors import ArtefactError, DataError, UsageError
from kseg.inference.distributions import probabilities
from kseg.segments.borders import borders
from kseg.segments.labels import region_sums
from kseg.segments.tree import SegmentTree
from kseg.semantic.refine import segment_training, train_segment_classifier
from kseg.semantic.refine.segment_classifier import SegmentClassifier
from kseg.semantic.refine.segment_features import FeatureMaps, SegmentPooling
from kseg.semantic.refine.superpixels import Superpixels
from kseg.semantic.refine.tree import build_tree, entropy, optimal_cover
from kseg.semantic.refine.tree_cover import TreeCover

FINE = {"scale": 1.0, "sigma": 0.0, "min_size": 6}


def blocks(seed: int = 0, rows: int = 4, columns: int = 5, side: int = 6) -> np.ndarray:
    """An image of random squares."""
    colors = np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), np.uint8)
    return np.repeat(np.repeat(colors, side, axis=0), side, axis=1)


def members(tree: SegmentTree) -> list[set[int]]:
    """Each node's leaves, by recursion."""
    sets: list[set[int]] = [{leaf} for leaf in range(tree.leaves)]
    for one, other in tree.children:
        sets.append(sets[one] | sets[other])
    return sets


@pytest.mark.parametrize("linkage", ["average", "mst"])
def test_tree_nests_all_superpixels_into_the_image(linkage: str) -> None:
    image = blocks()
    labels = Superpixels(**FINE)(image)
    tree = build_tree(labels, image, linkage)
    assert tree.leaves == labels.max() + 1 == 20
    assert tree.children.shape == (19, 2)
    assert sorted(tree.children.ravel()) == list(range(38))
    sets = members(tree)
    assert sets[-1] == set(range(20))
    for index, (one, other) in enumerate(tree.children, tree.leaves):
        assert max(one, other) < index
        assert not sets[one] & sets[other]


def test_faintest_borders_go_first() -> None:
    shades = np.array([10, 14, 200, 206, 120], np.uint8)
    image = np.repeat(np.broadcast_to(np.repeat(shades, 6), (6, 30))[..., None], 3, axis=2)
    labels = np.broadcast_to(np.repeat(np.arange(5), 6), (6, 30)).astype(np.intp)
    tree = build_tree(labels, image, "average", sigma=0)
    assert [set(pair) for pair in tree.children.tolist()] == [{0, 1}, {2, 3}, {4, 6}, {5, 7}]
    np.testing.assert_allclose(tree.strength * 255 / np.sqrt(3), [4, 6, 86, 186])


def test_mst_linkage_is_the_minimum_spanning_tree() -> None:
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    image = blocks(seed=3)
    labels = Superpixels(**FINE)(image)
    found = borders(labels, image)
    weights = csr_array((found.means(found.contrast), found.edges.T), shape=(20, 20))
    expected = np.sort(minimum_spanning_tree(weights).data)
    strength = build_tree(labels, image, "mst", sigma=0).strength
    np.testing.assert_allclose(strength, expected)
    average = build_tree(labels, image, "average", sigma=0).strength
    assert average.sum() > strength.sum()


def test_average_linkage_weighs_borders_by_their_length() -> None:
    # 0 and 1 merge first; 2 borders 0 over two pixels and 1 over four.
    labels = np.array([[0, 0, 1, 1, 1, 1], [2, 2, 2, 2, 2, 2]])
    image = np.zeros((2, 6, 3), np.uint8)
    image[0, 2:] = 10
    image[1] = 100
    tree = build_tree(labels, image, "average", sigma=0)
    np.testing.assert_allclose(tree.strength * 255 / np.sqrt(3), [10, (2 * 100 + 4 * 90) / 6])


def random_tree(leaves: int, seed: int) -> SegmentTree:
    random = np.random.default_rng(seed)
    roots, children = list(range(leaves)), []
    for index in range(leaves, 2 * leaves - 1):
        one, other = (roots.pop(int(random.integers(len(roots)))) for _ in range(2))
        children.append((one, other))
        roots.append(index)
    return SegmentTree(leaves, np.array(children, np.intp).reshape(-1, 2), np.zeros(leaves - 1))


@pytest.mark.parametrize("leaves", [1, 2, 17])
def test_sums_and_runs_of_leaves_agree_with_recursion(leaves: int) -> None:
    tree = random_tree(leaves, seed=leaves)
    values = np.random.default_rng(1).random((leaves, 3))
    sums = tree.sums(values)
    order, first, last = tree.leaf_order()
    for node, held in enumerate(members(tree)):
        np.testing.assert_allclose(sums[node], values[sorted(held)].sum(axis=0))
        assert set(order[first[node] : last[node]]) == held


@pytest.mark.parametrize("seed", range(4))
def test_cover_takes_the_cheapest_of_a_leaf_and_all_its_ancestors(seed: int) -> None:
    tree = random_tree(12, seed)
    costs = np.random.default_rng(seed).random(tree.size)
    cover = optimal_cover(tree, costs)
    for leaf in range(12):
        holders = [node for node, held in enumerate(members(tree)) if leaf in held]
        assert cover[leaf] == min(holders, key=lambda node: costs[node])


def test_among_equal_costs_the_largest_segment_wins() -> None:
    tree = random_tree(6, seed=9)
    assert (optimal_cover(tree, np.zeros(tree.size)) == tree.size - 1).all()


def test_cover_is_a_partition_no_less_pure_than_leaves_and_root() -> None:
    image = blocks(seed=5)
    logits = np.random.default_rng(6).normal(size=(*image.shape[:2], 4)).astype(np.float32) * 3
    labels = Superpixels(**FINE)(image)
    tree = build_tree(labels, image)
    sums = tree.sums(region_sums(probabilities(logits), labels))
    histograms = sums / sums.sum(axis=1, keepdims=True)
    costs = entropy(histograms)
    cover = optimal_cover(tree, costs)
    sets = members(tree)
    # Every pixel has one segment, and it lies in it.
    assert cover[labels].shape == labels.shape
    assert all(leaf in sets[node] for leaf, node in enumerate(cover))
    chosen = costs[cover][labels].mean()
    assert chosen <= costs[: tree.leaves][labels].mean()
    assert chosen <= costs[-1]
    scores = TreeCover(**FINE)(image, logits)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(np.exp(scores), histograms[cover][labels], rtol=1e-4)


def test_entropy_is_zero_for_one_class_and_log_c_for_all() -> None:
    values = entropy(np.array([[1.0, 0, 0, 0], [0.25] * 4]))
    np.testing.assert_allclose(values, [0, np.log(4)])


def test_a_doubtful_superpixel_takes_the_class_of_the_pure_segment_around_it() -> None:
    shades = np.array([10, 14, 200], np.uint8)
    image = np.repeat(np.broadcast_to(np.repeat(shades, [18, 6, 12]), (6, 36))[..., None], 3, axis=2)
    logits = np.zeros((6, 36, 2), np.float32)
    logits[:, :18] = (4, 0)
    logits[:, 18:24] = (0, 0.1)
    logits[:, 24:] = (0, 4)
    scores = TreeCover(**FINE, smoothing=0)(image, logits)
    assert (scores[:, :24].argmax(axis=-1) == 0).all()
    assert (scores[:, 24:].argmax(axis=-1) == 1).all()


@pytest.mark.parametrize("linkage", ["average", "mst"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (9, 9)])
def test_one_superpixel_is_its_own_tree(linkage: str, shape: tuple[int, int]) -> None:
    logits = np.random.default_rng(7).normal(size=(*shape, 3)).astype(np.float32)
    scores = TreeCover(linkage=linkage)(np.full((*shape, 3), 50, np.uint8), logits)
    expected = probabilities(logits).reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(np.exp(scores), np.broadcast_to(expected, scores.shape), rtol=1e-4)


def test_arguments_out_of_range_are_refused() -> None:
    for arguments in ({"linkage": "ward"}, {"smoothing": -1.0}, {"min_size": 0}):
        with pytest.raises(UsageError, match=f"`{next(iter(arguments))}`"):
            TreeCover(**arguments)  # type: ignore[arg-type]


# --- the classifier of segments ---


def pooled_by_loop(maps: np.ndarray, mask: np.ndarray, grid: int) -> np.ndarray:
    """The definition of elastic pooling, position by position."""
    rows, columns = np.nonzero(mask)
    top, left = rows.min(), columns.min()
    height, width = rows.max() - top + 1, columns.max() - left + 1
    down, across = min(grid, height), min(grid, width)
    cells = np.full((down, across, maps.shape[-1]), -np.inf)
    for row, column in zip(rows, columns, strict=True):
        cell = (row - top) * down // height, (column - left) * across // width
        cells[cell] = np.maximum(cells[cell], maps[row, column])
    cells[np.isneginf(cells)] = 0
    picked = np.arange(grid)
    return cells[picked * down // grid][:, picked * across // grid].ravel()


@pytest.mark.parametrize("grid", [1, 3, 5])
def test_pooled_features_equal_the_definition(grid: int) -> None:
    image = blocks(seed=8)
    labels = Superpixels(**FINE)(image)
    tree = build_tree(labels, image)
    maps = np.random.default_rng(9).normal(size=(12, 15, 4)).astype(np.float32)
    pooling = SegmentPooling(maps, (2, 2), labels, tree, grid)
    assert pooling.length == grid * grid * 4
    pooled = pooling(np.arange(tree.size))
    at_positions = labels[1::2, 1::2]
    for node, held in enumerate(members(tree)):
        expected = pooled_by_loop(maps, np.isin(at_positions, sorted(held)), grid)
        np.testing.assert_allclose(pooled[node], expected, rtol=1e-6)


def test_a_superpixel_between_positions_takes_the_nearest_one() -> None:
    labels = np.zeros((16, 16), np.intp)
    labels[0:3, 12:15] = 1
    tree = SegmentTree(2, np.array([[0, 1]]), np.zeros(1))
    maps = np.arange(4, dtype=np.float32).reshape(2, 2, 1)
    pooled = SegmentPooling(maps, (8, 8), labels, tree, 1)(np.arange(3))
    np.testing.assert_array_equal(pooled, [[3], [1], [3]])


def toy_network(classes: int = 3, size: int | None = None) -> keras.Model:
    """Mean colours of 4 x 4 squares as the layer `features`, and logits of no use."""
    image = keras.Input((size, size, 3), name="image")
    x = keras.layers.AveragePooling2D(4, padding="same", name="features")(image)
    x = keras.layers.Conv2D(classes, 1, kernel_initializer="zeros")(x)
    model = keras.Model(image, keras.layers.UpSampling2D(4, name="logits")(x))
    model.spec = toy_spec(classes)
    return model


def colored(seed: int) -> SimpleNamespace:
    """Blocks of three colours that are the three classes, with a void row."""
    random = np.random.default_rng(seed)
    ids = np.repeat(np.repeat(random.integers(0, 3, (4, 5)), 8, axis=0), 8, axis=1)
    colors = np.array([[250, 10, 10], [10, 250, 10], [10, 10, 250]])[ids]
    image = (colors + np.repeat(np.repeat(random.integers(-9, 6, (4, 5, 1)), 8, axis=0), 8, axis=1)).clip(
        0, 255
    )
    mask = ids.astype(np.uint8)
    mask[0] = 255
    return SimpleNamespace(name=str(seed), image=image.astype(np.uint8), mask=mask)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A segment classifier of the toy network."""
    network = tmp_path_factory.mktemp("segments") / "model.keras"
    saving.save(toy_network(), network)
    path = network.with_name("segments.keras")
    samples = [colored(seed) for seed in range(12)]
    result = train_segment_classifier(
        network,
        samples,
        path,
        hidden=32,
        epochs=12,
        batch_size=32,
        learning_rate=1e-2,
        superpixels={**FINE, "sigma": 0.0},
    )
    return path, result


def test_training_learns_histograms(trained: tuple[Path, dict[str, Any]]) -> None:
    _, result = trained
    assert result["segments"] > 200
    assert len(result["kl"]) == 12
    assert result["kl"][-1] < 0.2 * result["kl_prior"]


def test_true_histograms_leave_void_out() -> None:
    labels = np.array([[0, 0, 0], [1, 1, 2]])
    mask = np.array([[2, 0, 2], [255, 1, 255]])
    counts = segment_training.true_counts(mask, labels, 3, 255)
    np.testing.assert_array_equal(counts, [[1, 0, 2], [0, 1, 0], [0, 0, 0]])
    with pytest.raises(DataError, match="ids from 0 to 7"):
        segment_training.true_counts(np.array([[0, 7]]), np.zeros((1, 2), np.intp), 3, 255)


def test_collected_pairs_are_the_same_for_a_seed_and_sum_to_one() -> None:
    network = toy_network()
    maps = FeatureMaps(keras.Model(network.input, network.get_layer("features").output), network.spec)
    assert maps.stride == 4
    samples = [colored(1), colored(2)]
    features, histograms = segment_training.collect_segments(
        maps, samples, per_image=7, grid=2, superpixels=FINE
    )
    assert features.shape == (14, 2 * 2 * 3)
    np.testing.assert_allclose(histograms.sum(axis=1), 1, rtol=1e-6)
    again = segment_training.collect_segments(maps, samples, per_image=7, grid=2, superpixels=FINE)
    np.testing.assert_array_equal(features, again[0])
    other = segment_training.collect_segments(maps, samples, per_image=7, grid=2, superpixels=FINE, seed=1)
    assert not np.array_equal(features, other[0])
    void = SimpleNamespace(name="v", image=colored(1).image, mask=np.full((32, 40), 255))
    with pytest.raises(DataError, match="No segment has a labelled pixel"):
        segment_training.collect_segments(maps, [void], superpixels=FINE)


def test_the_refiner_reads_classes_that_the_logits_do_not_show(trained: tuple[Path, dict[str, Any]]) -> None:
    path, _ = trained
    sample = colored(100)
    refiner = TreeCover(classifier=path, **FINE)
    assert refiner.spec is not None
    assert refiner.spec.classes == toy_spec(3).classes
    scores = refiner(sample.image, np.zeros((32, 40, 3), np.float32))
    valid = sample.mask != 255
    assert (scores.argmax(axis=-1) == sample.mask)[valid].mean() > 0.95
    np.testing.assert_allclose(np.exp(scores).sum(axis=-1), 1, rtol=1e-4)
    tiny = refiner(sample.image[:1, :1], np.zeros((1, 1, 3), np.float32))
    assert tiny.shape == (1, 1, 3)
    with pytest.raises(UsageError, match="has 3 classes, the logits have 5"):
        refiner(sample.image, np.zeros((32, 40, 5), np.float32))
    refiner.close()


@pytest.mark.parametrize("rule", ["stretch", "fit"])
def test_feature_maps_follow_the_resize_rule(rule: str) -> None:
    network = toy_network()
    spec = toy_spec(3, resize=rule, input_size=(16, 16))
    maps = FeatureMaps(keras.Model(network.input, network.get_layer("features").output), spec, stride=4)
    image = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    values, pitch = maps(image)
    assert values.shape == ((4, 4, 3) if rule == "stretch" else (2, 4, 3))
    assert pitch == ((8, 16) if rule == "stretch" else (16, 16))
    np.testing.assert_allclose(
        values[0, 0], image[: int(pitch[0]), : int(pitch[1])].mean(axis=(0, 1)), atol=1
    )


def test_wrong_files_layers_and_networks_are_refused(tmp_path: Path, trained: tuple[Path, Any]) -> None:
    with pytest.raises(ArtefactError, match="does not exist"):
        SegmentClassifier(tmp_path / "none.keras")
    network = tmp_path / "model.keras"
    saving.save(toy_network(), network)
    with pytest.raises(ArtefactError, match="is no segment classifier"):
        SegmentClassifier(network)
    half = tmp_path / "half.keras"
    half.write_bytes(trained[0].read_bytes()[:2000])
    with pytest.raises(ArtefactError, match="is not a whole"):
        SegmentClassifier(half)
    samples = [colored(0)]
    with pytest.raises(UsageError, match="Did you mean 'features'"):
        train_segment_classifier(toy_network(), samples, tmp_path / "x.keras", layer="feature")
    with pytest.raises(UsageError, match=r"must end in '\.keras'"):
        train_segment_classifier(toy_network(), samples, tmp_path / "x.npz")
    with pytest.raises(UsageError, match="any size"):
        train_segment_classifier(toy_network(size=32), samples, tmp_path / "x.keras")
    with pytest.raises(UsageError, match="`epochs`"):
        train_segment_classifier(toy_network(), samples, tmp_path / "x.keras", epochs=0)
