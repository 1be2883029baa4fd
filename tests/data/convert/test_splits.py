"""Splits: groups stay whole, shares are kept, train has every class where that can be, a seed decides."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import foreign
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kseg import data
from kseg.data.convert import splits
from kseg.errors import UsageError

SHARES = splits.parse("80/10/10")
BOTH = frozenset({0, 1})


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("seq01_000123", "seq01"),
        ("seq01_000123_left", "seq01"),
        ("0001TP_008550", "0001TP"),
        ("aachen/aachen_000001_000019", "aachen/aachen_000001"),
        ("photo (12)", "photo"),
        ("000123", "000123"),
        ("plain", "plain"),
        ("00ae65c1c6631ae6f2be1a44", "00ae65c1c6631ae6f2be1a"),
    ],
)
def test_groups_are_what_stands_before_the_last_number(name: str, key: str) -> None:
    assert splits.group_keys([name], None) == [key]


@given(
    sizes=st.lists(st.integers(1, 12), min_size=3, max_size=30),
    seed=st.integers(0, 2**32),
    classes=st.lists(st.frozensets(st.integers(0, 4), min_size=1), min_size=1, max_size=8),
)
def test_groups_stay_whole_and_no_split_is_empty(
    sizes: list[int], seed: int, classes: list[frozenset[int]]
) -> None:
    names = [f"seq{group}_{frame:04d}" for group, size in enumerate(sizes) for frame in range(size)]
    contents = [classes[int(name[3:].split("_")[0]) % len(classes)] for name in names]
    division = splits.divide(names, contents, SHARES, seed=seed)
    where = defaultdict(set)
    for name, split in zip(names, division.splits, strict=True):
        where[name.split("_")[0]].add(split)
    assert all(len(found) == 1 for found in where.values())
    assert set(division.splits) == {"train", "val", "test"}
    in_train = [found for found, split in zip(contents, division.splits, strict=True) if split == "train"]
    missing = frozenset().union(*contents) - frozenset().union(*in_train)
    for name, found, split in zip(names, contents, division.splits, strict=True):
        if found & missing:  # only a group that is alone in its split stays there
            others = {other for other, place in zip(names, division.splits, strict=True) if place == split}
            assert {other.split("_")[0] for other in others} == {name.split("_")[0]}
    assert division == splits.divide(names, contents, SHARES, seed=seed)


def test_single_images_follow_the_shares_and_the_seed() -> None:
    names = [f"{index:04d}" for index in range(100)]
    one, two = (splits.divide(names, [BOTH] * 100, SHARES, seed=seed) for seed in (0, 1))
    assert Counter(one.splits) == Counter(two.splits) == {"train": 80, "val": 10, "test": 10}
    assert one.splits != two.splits
    assert "one by one" in one.note
    assert Counter(splits.divide(names, [BOTH] * 100, splits.parse("3/1")).splits) == {"train": 75, "val": 25}


@pytest.mark.parametrize("seed", range(10))
def test_a_class_of_one_image_goes_to_train(seed: int) -> None:
    names = [f"{index:04d}" for index in range(40)]
    for rare in (0, 17, 39):
        contents = [frozenset({0, 1, 2}) if index == rare else BOTH for index in range(40)]
        division = splits.divide(names, contents, SHARES, seed=seed)
        assert division.splits[rare] == "train"
        assert Counter(division.splits) == {"train": 32, "val": 4, "test": 4}


def test_one_sequence_is_divided_singly_and_that_is_said() -> None:
    names = [f"IMG_{index:04d}" for index in range(10)]
    division = splits.divide(names, [BOTH] * 10, SHARES)
    assert Counter(division.splits) == {"train": 8, "val": 1, "test": 1}
    assert "IMG_0000" in division.note
    assert "--group-by" in division.note


def test_a_pattern_groups_by_its_group_and_refuses_too_few() -> None:
    names = [f"{place}-{index}-x" for place in ("sea", "wood", "town") for index in range(5)]
    division = splits.divide(names, [BOTH] * 15, SHARES, pattern=r"^(\w+)-")
    assert Counter(division.splits) == {"train": 5, "val": 5, "test": 5}
    with pytest.raises(UsageError, match="makes 1 groups"):
        splits.divide(names, [BOTH] * 15, SHARES, pattern="-x$")
    with pytest.raises(UsageError, match="2 images cannot"):
        splits.divide(names[:2], [BOTH] * 2, SHARES)


def flat(root: Path, names: list[str]) -> None:
    for index, name in enumerate(names):
        foreign.image(root / "images", f"{name}.jpg")
        foreign.png(root / "labels" / f"{name}.png", foreign.ids(index, [0, 1]))
    foreign.write(root / "classes.json", '{"classes": ["a", "b"], "void_id": 255}')


def test_a_flat_folder_is_split_by_sequence_and_linked(tmp_path: Path) -> None:
    names = [f"seq{index // 4}_{index % 4:03d}" for index in range(40)]
    flat(tmp_path / "from", names)
    done = data.convert(tmp_path / "from", "auto", tmp_path / "out", link="hard", seed=3)
    found = {split: {item.name for item in items} for split, items in _items(tmp_path / "out").items()}
    assert {split: len(items) for split, items in found.items()} == {"train": 32, "val": 4, "test": 4}
    assert len({name.split("_")[0] for name in found["val"]}) == 1
    assert any("40 images in 10 groups that stay together" in note for note in done.notes)
    image = next((tmp_path / "out" / "images").rglob("seq0_000.jpg"))
    assert image.stat().st_ino == (tmp_path / "from" / "images" / "seq0_000.jpg").stat().st_ino
    data.convert(tmp_path / "from", "auto", tmp_path / "links", link="symlink", seed=3)
    image = next((tmp_path / "links" / "images").rglob("seq0_000.jpg"))
    assert image.is_symlink()
    assert np.array_equal(*(folder_bytes(tmp_path / name) for name in ("out", "links")))


def folder_bytes(root: Path) -> np.ndarray:
    held = [path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()]
    return np.frombuffer(b"".join(held), np.uint8)


def _items(out: Path) -> dict[str, tuple]:  # type: ignore[type-arg]
    from kseg.data import open as open_source

    return open_source(out).items


def test_splits_that_exist_are_kept_unless_another_is_asked_for(tmp_path: Path) -> None:
    foreign.voc(tmp_path / "from")
    kept = data.convert(tmp_path / "from", "voc", tmp_path / "1")
    assert list(kept.counts) == ["train", "val"]
    assert kept.notes == []
    again = data.convert(tmp_path / "from", "voc", tmp_path / "2", split="50/0/50")
    assert list(again.counts) == ["train", "test"]
    assert "the splits that the data had were given up, as asked" in again.notes


def test_one_name_in_two_splits_survives_another_division(tmp_path: Path) -> None:
    foreign.supervisely(tmp_path / "from")
    done = data.convert(tmp_path / "from", "supervisely", tmp_path / "out", split="50/50")
    assert sorted(path.name for path in (tmp_path / "out" / "images").rglob("*.jpg")) == ["a.jpg", "a.jpg"]
    assert sum(counts.images for counts in done.counts.values()) == 2
