"""Crops for two-stage training: at most two classes around an object, every class under a proposal."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kseg.boxes import iou
from kseg.data import Batches, Sample
from kseg.data.crops.cropping import ObjectCrops, ProposalCrops, argument_names, crops
from kseg.data.crops.objects import objects
from kseg.data.instances import stack
from kseg.data.run_lengths import Masks
from kseg.errors import DataError, UsageError
from kseg.spec import Spec

WITH_BACKGROUND = Spec(classes=("background", "cat", "dog"))
STREET = Spec(classes=("road", "car", "pole"))


def boxed(size: tuple[int, int], *boxes: tuple[int, tuple[int, int, int, int]], rest: int = 0) -> NDArray:
    mask = np.full(size, rest, np.uint8)
    for value, (y0, x0, y1, x1) in boxes:
        mask[y0:y1, x0:x1] = value
    return mask


def sample(mask: NDArray, name: str = "a", **more: Any) -> Sample:
    """An image whose red channel is the mask's ids, times ten."""
    image = np.repeat((mask.astype(np.int32) * 10 % 256).astype(np.uint8)[..., None], 3, axis=2)
    return Sample(name, image, mask, **more)


CAT, DOG = (10, 20, 50, 60), (30, 55, 90, 95)


def animals() -> Sample:
    mask = boxed((100, 120), (1, CAT), (2, DOG))
    mask[0:4] = 255
    return sample(mask)


def fixed(*boxes: tuple[int, int, int, int]) -> Callable[[NDArray], NDArray]:
    return lambda image: np.array(boxes, np.int32).reshape(-1, 4)


def test_an_object_crop_keeps_its_class_and_background() -> None:
    found = ObjectCrops([animals()], WITH_BACKGROUND, enlarge=1.2, min_side=1)
    assert len(found) == 2
    truth = {crop.class_id: taken.mask for crop, taken in zip(found.places, found, strict=True)}
    assert truth[1].shape == (48, 48)
    assert truth[2].shape == (72, 48)
    # The dog's corner inside the cat's crop is background there.
    assert sorted(np.unique(truth[1])) == [0, 1]
    assert sorted(np.unique(truth[2])) == [0, 2]
    assert (truth[1] == 1).sum() == 40 * 40 - 20 * 5


def test_at_most_two_classes_in_any_crop_of_random_maps() -> None:
    rng = np.random.default_rng(0)
    maps = [np.kron(rng.choice([0, 1, 2, 255], (5, 6)), np.ones((16, 16))).astype(np.uint8) for _ in range(6)]
    for spec in (WITH_BACKGROUND, STREET):
        found = crops("objects", [sample(mask, str(i)) for i, mask in enumerate(maps)], spec)
        assert len(found) > 20
        for crop, taken in zip(found.places, found, strict=True):
            ids = set(np.unique(taken.mask).tolist())
            assert crop.class_id in ids
            assert ids <= {crop.class_id, 0, 255} if spec is WITH_BACKGROUND else {crop.class_id, 255}


def test_without_a_background_the_rest_is_ignored() -> None:
    mask = boxed((80, 80), (1, (20, 20, 60, 60)))
    found = ObjectCrops([sample(mask)], STREET)
    road, car = found.places
    assert (road.class_id, car.class_id) == (0, 1)
    assert sorted(np.unique(found[0].mask)) == [0, 255]
    assert sorted(np.unique(found[1].mask)) == [1, 255]


def test_void_stays_void_and_so_does_what_lies_outside() -> None:
    mask = boxed((60, 60), (1, (0, 0, 30, 30)))
    mask[10:12, 10:12] = 255
    found = ObjectCrops([sample(mask)], WITH_BACKGROUND, enlarge=2)
    box = found.places[0].box
    assert box == (-15, -15, 45, 45)
    assert (found[0].mask[:15] == 255).all()
    assert (found[0].mask[:, :15] == 255).all()
    assert (found[0].mask[25:27, 25:27] == 255).all()
    assert (found[0].image[:15] == 0).all()
    assert (found[0].mask[15:, 15:] == 255).sum() == 4
    assert (
        ObjectCrops([sample(mask)], WITH_BACKGROUND, enlarge=2, fill=(1, 2, 3))[0].image[0, 0] == (1, 2, 3)
    ).all()


def test_instances_are_objects_even_where_another_covers_them() -> None:
    size = (80, 100)
    masks = [boxed(size, (1, box)).astype(bool) for box in (CAT, (20, 30, 44, 54), (60, 10, 79, 30))]
    instances = stack(Masks.from_masks(masks, size), [2, 1, 1], [False, False, True])
    covered = sample(boxed(size, (2, CAT)), instances=instances)
    found = ObjectCrops([covered], WITH_BACKGROUND, enlarge=1, min_side=1)
    assert [crop.box for crop in found.places] == [CAT, (20, 30, 44, 54)]
    # Instance 2 has no pixel in the class map, and is whole in its own crop.
    assert (found[1].mask == 1).all()
    assert sorted(np.unique(found[0].mask)) == [2]


def test_small_objects_are_left_out_and_thin_ones_get_surroundings() -> None:
    mask = boxed((100, 100), (1, (10, 10, 20, 20)), (2, (30, 50, 90, 52)))
    facts = objects(sample(mask), WITH_BACKGROUND, min_size=16)
    assert facts.classes.tolist() == [2]
    taken = ObjectCrops([sample(mask)], WITH_BACKGROUND, min_side=32)[0]
    assert taken.mask.shape == (72, 32)
    assert len(ObjectCrops([sample(mask)], WITH_BACKGROUND, min_size=10)) == 2


def test_components_touch_at_corners() -> None:
    mask = boxed((60, 60), (1, (0, 0, 20, 20)), (1, (20, 20, 40, 40)), (1, (0, 45, 20, 60)))
    assert objects(sample(mask), WITH_BACKGROUND).boxes.tolist() == [[0, 0, 40, 40], [0, 45, 20, 60]]


def test_proposals_that_overlap_an_object_carry_every_class() -> None:
    near, far, background = (12, 22, 52, 62), (60, 0, 100, 30), (0, 0, 100, 120)
    found = ProposalCrops(
        [animals()], WITH_BACKGROUND, method=fixed(near, far, background), enlarge=1, min_side=1, replicate=1
    )
    assert [crop.box for crop in found.places] == [near]
    assert found.places[0].class_id == 1
    assert iou(np.array([near]), np.array([CAT]))[0, 0] >= 0.5
    assert np.array_equal(found[0].mask, animals().mask[12:52, 22:62])
    assert set(np.unique(found[0].mask)) == {0, 1, 2}
    assert np.array_equal(found[0].image, animals().image[12:52, 22:62])
    assert (
        len(ProposalCrops([animals()], WITH_BACKGROUND, method=fixed(near, CAT), count=1, replicate=1)) == 1
    )


def test_the_overlap_is_measured_before_boxes_grow() -> None:
    # Half of the cat: 0.5 as it is, more once enlarged.
    half, less = (10, 20, 30, 60), (10, 20, 29, 60)
    taken = ProposalCrops([sample(boxed((100, 120), (1, CAT)))], WITH_BACKGROUND, method=fixed(half, less))
    assert len(taken) == 1
    assert taken.places[0].box == (4, 16, 36, 64)


def test_rare_classes_are_repeated_up_to_the_median_and_the_limit() -> None:
    cats = [sample(boxed((100, 120), (1, CAT)), f"cat{i}") for i in range(6)]
    dog = sample(boxed((100, 120), (2, CAT)), "dog")
    classes = {}
    for limit in (1, 2, 9):
        found = ProposalCrops([*cats, dog], WITH_BACKGROUND, method=fixed(CAT), replicate=limit)
        classes[limit] = [crop.class_id for crop in found.places]
    assert classes[1] == [1] * 6 + [2]
    assert classes[2] == [1] * 6 + [2] * 2
    # The median of 6 and 1 is 3.5: four dogs come up to it.
    assert classes[9] == [1] * 6 + [2] * 4


def test_an_image_that_proposals_miss_gives_no_crop_and_is_named() -> None:
    empty = sample(np.zeros((100, 120), np.uint8), "empty")
    small = sample(boxed((100, 120), (1, (70, 70, 95, 95))), "missed")
    found = ProposalCrops([empty, animals(), small], WITH_BACKGROUND, method=fixed(CAT))
    assert found.missed == ("empty", "missed")
    assert {crop.sample for crop in found.places} == {1}


@pytest.mark.parametrize(
    ("kind", "mask", "arguments", "words"),
    [
        ("objects", np.zeros((40, 40)), {}, ["1 images", "min_size", "whole images"]),
        ("objects", np.full((40, 40), 255), {}, ["min_size"]),
        ("proposals", boxed((90, 90), (1, CAT)), {"method": fixed()}, ["No proposal", "0.5", "min_iou"]),
        ("proposals", boxed((90, 90), (1, CAT)), {"method": fixed((70, 70, 80, 80))}, ["min_iou"]),
    ],
)
def test_data_that_give_no_crop_are_a_data_error(
    kind: str, mask: NDArray, arguments: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(DataError) as caught:
        crops(kind, [sample(mask.astype(np.uint8))], WITH_BACKGROUND, **arguments)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        ("object", {}, ["'object'", "Did you mean 'objects'?"]),
        ("objects", {"enlarg": 1.2}, ["`enlarg`", "Did you mean 'enlarge'?"]),
        ("objects", {"method": "edge-boxes"}, ["no argument `method`"]),
        ("objects", {"enlarge": 0.5}, ["`enlarge`", "0.5"]),
        ("objects", {"min_size": 0}, ["`min_size`", "0"]),
        ("objects", {"per_image": "all"}, ["`per_image`", "'all'"]),
        ("objects", {"per_image": 1.5}, ["`per_image`", "1.5"]),
        ("objects", {"enlarge": "1.2"}, ["`enlarge`", "a number"]),
        ("objects", {"fill": "red"}, ["`fill`", "'red'"]),
        ("objects", {"fill": [0, 0, 300]}, ["`fill`", "300"]),
        ("objects", {"progress": 1}, ["`progress`", "1"]),
        ("proposals", {"min_iou": 0}, ["`min_iou`", "0"]),
        ("proposals", {"min_iou": "x"}, ["`min_iou`", "'x'"]),
        ("proposals", {"replicate": 0}, ["`replicate`", "0"]),
        ("proposals", {"method": "edgeboxes"}, ["Did you mean 'edge-boxes'?"]),
        ("proposals", {"max_side": 4}, ["`max_side`", "4"]),
    ],
)
def test_bad_arguments_are_named(kind: str, arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        crops(kind, [animals()], WITH_BACKGROUND, **arguments)
    assert all(word in str(caught.value) for word in words), caught.value


def test_boxes_of_the_caller_are_checked() -> None:
    with pytest.raises(UsageError, match=r"\(2, 3\)"):
        crops("proposals", [animals()], WITH_BACKGROUND, method=lambda image: np.ones((2, 3), int))


def test_no_image_is_a_data_error() -> None:
    with pytest.raises(DataError, match="no image"):
        ObjectCrops([], WITH_BACKGROUND)


def test_every_named_argument_is_taken() -> None:
    assert {"min_iou", "quality", "enlarge"} <= set(argument_names("proposals"))
    assert "quality" not in argument_names("objects")
    options = {"quality": False, "max_side": 100, "seed": 1, "count": 300, "per_image": 3, "min_iou": 0.4}
    rng = np.random.default_rng(0)
    noisy = animals()
    image = noisy.image * 8 + rng.integers(0, 9, noisy.image.shape, dtype=np.uint8)
    found = crops("proposals", [Sample("a", image, noisy.mask)], WITH_BACKGROUND, replicate=1, **options)
    assert 0 < len(found) <= 3


def test_per_image_keeps_evenly_spaced_ones() -> None:
    boxes = [(10, 20, 50, 60 + i) for i in range(8)]
    found = ProposalCrops(
        [animals()], WITH_BACKGROUND, method=fixed(*boxes), per_image=4, enlarge=1, min_side=1, replicate=1
    )
    assert [crop.box for crop in found.places] == boxes[::2]


class Counting(list):
    """A list of samples that counts how often each is decoded."""

    def __init__(self, items: list[Sample]) -> None:
        super().__init__(items)
        self.reads = 0

    def __getitem__(self, index: Any) -> Any:
        self.reads += 1
        return super().__getitem__(index)


def test_places_are_found_once_and_pixels_cut_at_each_access() -> None:
    calls: list[int] = []

    def propose(image: NDArray) -> NDArray:
        calls.append(1)
        return np.array([CAT])

    samples = Counting([animals(), animals()])
    found = ProposalCrops(samples, WITH_BACKGROUND, method=propose)
    assert (len(calls), samples.reads) == (0, 0)
    assert len(found) == 2
    reads = samples.reads
    assert found[0].name != found[1].name
    assert len(calls) == 2
    assert samples.reads == reads + 2
    assert np.array_equal(found[-1].mask, found[1].mask)
    with pytest.raises(IndexError):
        found[2]
    assert [taken.name for taken in found[1:]] == ["a crop 0"]


def test_progress_sees_every_image() -> None:
    seen: list[int] = []

    def progress(numbers: Any, total: int, text: str) -> Any:
        for number in numbers:
            seen.append(number)
            yield number

    crops("objects", [animals()] * 3, WITH_BACKGROUND, progress=progress)
    assert seen == [0, 1, 2]


def test_crops_pickle_and_feed_batches() -> None:
    found = pickle.loads(pickle.dumps(crops("objects", [animals(), animals()], WITH_BACKGROUND)))
    batches = Batches(found, WITH_BACKGROUND, size=(32, 32), resize="stretch", batch_size=4)
    images, masks = batches[0]
    assert images.shape == (4, 32, 32, 3)
    assert all(len(np.unique(mask[mask != 255])) <= 2 for mask in masks)
    assert {1, 2} <= set(np.unique(masks).tolist())


def test_an_ignore_id_that_the_mask_cannot_hold_widens_it() -> None:
    spec = WITH_BACKGROUND.replace(ignore_id=-1)
    taken = ObjectCrops([sample(boxed((60, 60), (1, (0, 0, 30, 30))))], spec, enlarge=2)[0]
    assert taken.mask.dtype == np.int32
    assert taken.mask[0, 0] == -1
