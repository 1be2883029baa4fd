"""What `fit` is given: the same batches, epoch by epoch, and nothing in TensorFlow that tunes itself."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kseg import data
from kseg.data.batches.feeding import fed

pytest.importorskip("tensorflow")


class Named(keras.utils.PyDataset):
    """Two batches of named arrays; the second is wider, and has one row less."""

    def __init__(self) -> None:
        super().__init__()
        self.epoch = 0

    def __len__(self) -> int:
        return 2

    def on_epoch_end(self) -> None:
        self.epoch += 1

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        image = np.full((2 - index, 4, 4 + index, 3), self.epoch, np.float32)
        return {"image": image}, np.full(2 - index, index, np.int32)


def test_names_kinds_and_sizes_stay() -> None:
    dataset = fed(Named())
    images, labels = dataset.element_spec
    assert (images["image"].shape.as_list(), labels.shape.as_list()) == ([None, 4, None, 3], [None])
    assert (images["image"].dtype.name, labels.dtype.name, len(dataset)) == ("float32", "int32", 2)
    for epoch in range(2):
        seen = list(dataset.as_numpy_iterator())
        assert [given["image"].shape for given, _ in seen] == [(2, 4, 4, 3), (1, 4, 5, 3)]
        assert {float(given["image"].max()) for given, _ in seen} == {epoch}


def test_epochs_are_those_of_the_batches() -> None:
    own, given = (data.load("sample:nuclei", "train", size=(64, 64), batch_size=4, seed=3) for _ in range(2))
    dataset = fed(given)
    for epoch in range(2):
        own.set_epoch(epoch)
        for index, (images, masks) in enumerate(dataset.as_numpy_iterator()):
            np.testing.assert_array_equal(images, own[index][0])
            np.testing.assert_array_equal(masks, own[index][1])
        assert index == len(own) - 1


def test_nothing_tunes_itself() -> None:
    batches = data.load("sample:nuclei", "train", size=(64, 64), batch_size=4)
    for dataset in (fed(batches), batches.as_tf_data()):
        assert dataset.options().autotune.enabled is False
