"""Batches carry whole samples: instances go through cache, resizing and augmentation; `encode` comes last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_folders import box, make_coco

from kseg import Spec, data
from kseg.boxes import bounds
from kseg.data import Augment, Sample
from kseg.data.batches.batches import Batches
from kseg.data.transforms.normalize import preprocess
from kseg.errors import UsageError

MOST = 320
SIZE = (128, 128)


def encode(sample: Sample) -> dict[str, np.ndarray]:
    """Boxes, and masks as they are, of up to 320 instances; all zeros behind the last."""
    found = sample.instances
    assert found is not None
    boxes, masks = np.zeros((MOST, 4), np.int32), np.zeros((MOST, *sample.mask.shape), bool)
    boxes[: len(found)] = found.boxes()
    for instance in found.ids():
        masks[instance - 1] = found.mask(instance)
    return {"boxes": boxes, "masks": masks, "classes": sample.mask, "count": np.int32(len(found))}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("mode", ["memory", "none"])
def test_augmented_instances_keep_to_the_pixels_of_image_and_mask(cache: Path, mode: Any) -> None:
    options: dict[str, Any] = {
        "size": SIZE,
        "resize": "fit",
        "batch_size": 4,
        "augment": Augment(rotation=10, flip_vertical=0.5),
        "cache": mode,
        "cache_dir": cache,
    }
    whole = data.load("sample:nuclei", "train", encode=encode, **options)
    plain = data.load("sample:nuclei", "train", **options)
    for epoch in range(2):
        for batches in (whole, plain):
            batches.set_epoch(epoch)
        for index in range(3):
            (images, targets), (same, masks) = whole[index], plain[index]
            np.testing.assert_array_equal(images, same)
            np.testing.assert_array_equal(targets["classes"], masks)
            assert targets["masks"].shape == (4, MOST, *SIZE)
            seen = 0
            for row in range(4):
                np.testing.assert_array_equal(targets["masks"][row].any(axis=0), masks[row] == 1)
                for mask, corners in zip(targets["masks"][row], targets["boxes"][row], strict=True):
                    if not mask.any():
                        assert corners.tolist() == [0, 0, 0, 0]
                        continue
                    rows, columns = bounds(mask)
                    assert corners.tolist() == [rows.start, columns.start, rows.stop, columns.stop]
                    seen += 1
            assert seen > 10


def test_flips_and_scales_move_boxes_as_geometry_says(cache: Path) -> None:
    samples = data.open("sample:nuclei", cache_dir=cache).samples("val")
    square = [entry for entry in samples if entry.mask.shape == (256, 256)]
    assert len(square) == 4

    def boxes(size: tuple[int, int], **change: Any) -> np.ndarray:
        augment = Augment(**{"flip": 0.0, "scale": (1, 1), "color": 0, **change})
        spec = Spec(classes=("background", "nucleus"))
        return Batches(square, spec, size=size, augment=augment, encode=encode)[0][1]["boxes"]

    still = boxes((256, 256))
    assert (still.any(axis=2)).sum() == sum(len(entry.instances or ()) for entry in square)
    there = still.any(axis=2, keepdims=True)
    mirrored = np.where(there, still * (1, -1, 1, -1) + (0, 256, 0, 256), 0)[..., [0, 3, 2, 1]]
    np.testing.assert_array_equal(boxes((256, 256), flip=1.0), mirrored)
    np.testing.assert_array_equal(boxes((512, 512), scale=(2, 2)), 2 * still)


def test_instances_come_out_of_the_cache_as_the_files_have_them(tmp_path: Path) -> None:
    segments = [box(1, 1, 8, 8), box(4, 4, 3, 3)]
    folder = make_coco(tmp_path / "d", [{"category_id": 9, "segmentation": entry} for entry in segments])
    source: Any = data.open(folder, cache_dir=tmp_path / "cache")
    kept, read = source.samples("train")[0], source.stored("train", 0)[0]
    for name in ("layers", "classes", "crowd"):
        np.testing.assert_array_equal(getattr(kept.instances, name), getattr(read.instances, name))
    assert read.instances.boxes().tolist() == [[1, 1, 9, 9], [4, 4, 7, 7]]
    np.testing.assert_array_equal(source.masks("train")[0], kept.mask)
    np.testing.assert_array_equal(source.samples("train").mask(0), kept.mask)


def test_semantic_batches_load_no_instances(cache: Path) -> None:
    batches = data.load("sample:nuclei", "train", size=SIZE, cache_dir=cache)
    assert batches.samples[0].instances is None
    assert batches[0][1].dtype == np.int32
    held = data.open("sample:nuclei", cache_dir=cache).samples("train")
    assert held[0].instances is not None
    twin = Batches(held, held.spec, size=SIZE, shuffle=True)
    np.testing.assert_array_equal(twin[0][1], batches[0][1])
    assert twin._cache._held[int(twin._indices(0, 0)[0])].instances is None


def test_a_target_may_be_anything_of_one_shape() -> None:
    images = np.arange(2 * 6 * 6 * 3, dtype=np.uint8).reshape(2, 6, 6, 3)
    masks = np.zeros((2, 6, 6), np.uint8)
    spec = Spec(classes=("a", "b"))

    def mean_color(sample: Sample) -> np.ndarray:
        return sample.image.mean(axis=(0, 1))

    batches = data.from_arrays(images, masks, spec, encode=mean_color)
    np.testing.assert_allclose(batches[0][1], images.mean(axis=(1, 2)))
    np.testing.assert_array_equal(batches[0][0], preprocess(images, spec.normalization))

    def growing(sample: Sample) -> np.ndarray:
        return np.zeros(1 + int(sample.name[-1]))

    with pytest.raises(UsageError, match=r"`encode` must give the same arrays.*\(2,\)"):
        data.from_arrays(images, masks, spec, encode=growing)[0]
    with pytest.raises(UsageError, match="`encode`"):
        data.from_arrays(images, masks, spec, encode=3)  # type: ignore[arg-type]


def test_an_augmentation_that_forgets_instances_is_refused(cache: Path) -> None:
    def forgets(image: Any, mask: Any, layers: Any, *, rng: Any) -> Any:
        return image, mask

    batches = data.load(
        "sample:nuclei", "train", size=SIZE, resize="fit", augment=forgets, encode=encode, cache_dir=cache
    )
    with pytest.raises(UsageError, match=r"must give .image, mask, layers"):
        batches[0]


def test_tf_data_gives_targets_by_name(cache: Path) -> None:
    pytest.importorskip("tensorflow")
    options: dict[str, Any] = {"size": SIZE, "batch_size": 4, "encode": encode, "cache_dir": cache}
    first = next(iter(data.load("sample:nuclei", "val", **options).as_tf_data().as_numpy_iterator()))
    images, targets = data.load("sample:nuclei", "val", **options)[0]
    np.testing.assert_array_equal(first[0], images)
    assert set(first[1]) == set(targets)
    for name, values in targets.items():
        np.testing.assert_array_equal(first[1][name], values)
