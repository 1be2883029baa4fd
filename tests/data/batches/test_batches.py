"""Batches: shapes, order, determinism, caching, checks; with fit on the backend in use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from data_folders import SIZE, make_folder

from kseg import Normalization, Spec, data
from kseg.data.batches.batches import Batches
from kseg.errors import DataError, UsageError

SPEC = Spec(classes=("a", "b", "c"))


def arrays(count: int = 7, size: tuple[int, int] = (20, 24)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    masks = rng.choice(np.array([0, 1, 2, 255], np.uint8), (count, *size))
    return rng.integers(0, 256, (count, *size, 3), np.uint8), masks


def epoch(batches: Batches) -> list[tuple[np.ndarray, np.ndarray]]:
    return [batches[index] for index in range(len(batches))]


def equal(first: Any, second: Any) -> bool:
    return all(
        np.array_equal(a, b) for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True)
    )


def test_without_augmentation_a_batch_is_the_normalised_arrays() -> None:
    images, masks = arrays()
    norm = Normalization(mean=(10, 20, 30), std=(2, 4, 8))
    batches = data.from_arrays(images, masks, SPEC, batch_size=3, normalization=norm)
    assert len(batches) == 3
    got = epoch(batches)
    assert [len(part[0]) for part in got] == [3, 3, 1]
    want = (images.astype(np.float32) - (10, 20, 30)) / (2, 4, 8)
    np.testing.assert_allclose(np.concatenate([part[0] for part in got]), want, rtol=1e-6)
    np.testing.assert_array_equal(np.concatenate([part[1] for part in got]), masks)
    assert (got[0][0].dtype, got[0][1].dtype) == (np.float32, np.int32)
    assert batches.spec.input_size == (20, 24)
    assert batches.spec.normalization == norm


def test_the_same_seed_gives_the_same_epochs_in_any_order_of_access() -> None:
    def make(seed: int = 1) -> Batches:
        return data.from_arrays(
            *arrays(), SPEC, size=(16, 16), batch_size=2, augment=True, shuffle=True, seed=seed
        )

    first, second = make(), make()
    backwards = [second[index] for index in reversed(range(len(second)))][::-1]
    zero = epoch(first)
    assert len(zero) == 3  # the odd one out is left for another epoch
    assert equal(zero, backwards)
    first.on_epoch_end()
    one = epoch(first)
    assert not equal(zero, one)
    second.set_epoch(1)
    assert equal(one, epoch(second))
    assert not equal(zero, epoch(make(seed=2)))


def test_other_sizes_are_padded_or_cut_and_padding_is_void() -> None:
    images = [np.full((10, 30, 3), 200, np.uint8), np.full((40, 12, 3), 100, np.uint8)]
    masks = [np.ones((10, 30), np.uint8), np.zeros((40, 12), np.uint8)]
    _, ids = data.from_arrays(images, masks, SPEC, size=(16, 16))[0]
    assert (ids[0, :10] == 1).all()
    assert (ids[0, 10:] == 255).all()
    assert (ids[1, :, :12] == 0).all()
    assert (ids[1, :, 12:] == 255).all()
    stretched = data.from_arrays(images, masks, SPEC, size=(16, 16), resize="stretch")
    assert (stretched[0][1] != 255).all()
    assert stretched.spec.resize == "stretch"
    with pytest.raises(DataError, match=r"array 1.*size=") as caught:
        data.from_arrays(images, masks, SPEC)[0]
    assert "40x12" in str(caught.value)


def test_augmented_ids_are_those_of_the_data_or_void() -> None:
    images, masks = arrays()
    batches = data.from_arrays(images, np.where(masks == 2, 1, masks), SPEC, size=(32, 32), augment=True)
    assert set(np.unique(batches[0][1])) <= {0, 1, 255}


@pytest.mark.parametrize("mode", ["memory", "auto", "none"])
def test_caching_changes_nothing(tmp_path: Path, mode: Any) -> None:
    folder = make_folder(tmp_path / "d", count=5)
    options: dict[str, Any] = {"size": (8, 8), "batch_size": 2, "augment": True, "cache_dir": tmp_path / "c"}
    plain = data.load(folder, cache="none", **options)
    other = data.load(folder, cache=mode, **options)
    for number in range(2):
        plain.set_epoch(number)
        other.set_epoch(number)
        assert equal(epoch(plain), epoch(other))


def test_the_first_batch_is_checked() -> None:
    images, masks = arrays()
    masks[1, 0, 0] = 17
    with pytest.raises(DataError, match=r"array 1.*17.*id_map.*palette"):
        data.from_arrays(images, masks, SPEC)[0]

    def spoil(image: np.ndarray, mask: np.ndarray, *, rng: np.random.Generator) -> Any:
        return image[:4], mask[:4]

    with pytest.raises(UsageError, match=r"augment.*20x24"):
        data.from_arrays(*arrays(), SPEC, augment=spoil)[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"augment": 3}, "augment"),
        ({"resize": "squash"}, "resize"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        data.from_arrays(*arrays(), SPEC, **change)


def test_wrong_arrays_are_named() -> None:
    images, masks = arrays()
    with pytest.raises(UsageError, match="uint8 RGB"):
        data.from_arrays(images / 255.0, masks, SPEC)
    with pytest.raises(UsageError, match="masks"):
        data.from_arrays(images, masks[:, :5], SPEC)
    with pytest.raises(UsageError, match="7 and 6"):
        data.from_arrays(images, masks[:6], SPEC)


def test_fit_takes_each_epoch_once_and_advances(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "d", count=5)
    batches = data.load(folder, size=(8, 8), batch_size=2, augment=True, cache_dir=tmp_path / "c")
    model = keras.Sequential([keras.layers.Conv2D(3, 1)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    model.compile("sgd", loss)
    history = model.fit(batches, epochs=2, shuffle=False, verbose=0, validation_data=batches)
    assert batches.shuffle
    assert len(history.history["loss"]) == 2
    assert np.isfinite(history.history["loss"]).all()


def test_tf_data_gives_the_same_batches(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    folder = make_folder(tmp_path / "d", count=5)
    options: dict[str, Any] = {"size": SIZE, "batch_size": 2, "augment": True, "cache_dir": tmp_path / "c"}
    batches, twin = data.load(folder, **options), data.load(folder, **options)
    dataset = batches.as_tf_data()
    assert len(dataset) == len(twin)
    for number in range(2):
        twin.set_epoch(number)
        assert equal(list(dataset.as_numpy_iterator()), epoch(twin))


def test_crops_are_cut_after_resizing_and_the_spec_keeps_the_networks_size():
    rng = np.random.default_rng(0)
    mask = np.zeros((64, 96), np.uint8)
    mask[:, 48:] = 1
    image = np.repeat((mask * 200)[..., None], 3, axis=2) + rng.integers(0, 9, (64, 96, 3)).astype(np.uint8)
    spec = Spec(classes=("left", "right"))
    augment = data.Augment(flip=0.0, scale=(1.0, 1.0), color=0.0)
    batches = data.from_arrays(
        [image] * 8,
        [mask] * 8,
        spec,
        size=(32, 48),
        resize="fit",
        crop=(32, 40),
        augment=augment,
        batch_size=8,
    )
    images, masks = batches[0]
    assert images.shape == (8, 32, 40, 3)
    assert masks.shape == (8, 32, 40)
    assert (batches.spec.input_size, batches.spec.resize) == ((32, 48), "fit")
    # At half the scale the border lies at column 24 of 48: a crop of the image as it is would show it at 48.
    places = [int(np.argmax(row[0])) for row in masks]
    assert all(16 <= place <= 24 for place in places), places
    with pytest.raises(UsageError, match="`crop` needs `augment`"):
        data.from_arrays([image], [mask], spec, size=(32, 48), crop=(16, 16))
