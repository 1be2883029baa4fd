"""Proposals on disk: the same as found, one file per image and arguments, and no damaged file is believed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from kseg.data.proposals import Proposals, Proposer, StoredProposer, stored

REGIONS = Proposer(method="regions", boundaries="color", max_side=80)


def picture(seed: int = 0) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 4)) * 2


class Counting:
    """Counts how often images are searched."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.searched = 0
        search = Proposer.find

        def find(proposer: Proposer, image: NDArray[np.uint8]) -> Proposals:
            self.searched += 1
            return search(proposer, image)

        monkeypatch.setattr(Proposer, "find", find)


def assert_same(one: Proposals, other: Proposals) -> None:
    for name in ("boxes", "scores", "superpixels", "members"):
        first, second = getattr(one, name), getattr(other, name)
        assert (first is None) == (second is None), name
        if first is not None:
            assert first.dtype == second.dtype, name
            np.testing.assert_array_equal(first, second, err_msg=name)


@pytest.mark.parametrize("proposer", [REGIONS, Proposer(method="edge-boxes"), Proposer()], ids=str)
def test_the_second_time_nothing_is_searched(
    proposer: Proposer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting(monkeypatch)
    first = StoredProposer(proposer, tmp_path).find(picture())
    again = StoredProposer(proposer, tmp_path)
    assert_same(first, again.find(picture()))
    assert counting.searched == 1
    assert len(first) > 5
    assert np.array_equal(again(picture()), proposer(picture()))


def test_another_image_argument_or_version_is_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "forest.yml"
    model.write_text("one")
    kinds: list[dict[str, Any]] = [
        {},
        {"seed": 1},
        {"quality": True},
        {"max_side": 90},
        {"method": "edge-boxes"},
        {"method": "edge-boxes", "boundaries": "color"},
        {"method": "edge-boxes", "edge_model": str(model)},
        {"method": "regions", "boundaries": "color"},
    ]
    image = picture()
    names = [StoredProposer(Proposer(**kind), tmp_path).path(image).name for kind in kinds]
    model.write_text("other")
    names.append(StoredProposer(Proposer(**kinds[-2]), tmp_path).path(image).name)
    changed = image.copy()
    changed[3, 4, 1] ^= 1
    names += [StoredProposer(Proposer(), tmp_path).path(other).name for other in (changed, image[:, ::-1])]
    names.append(StoredProposer(Proposer(), tmp_path).path(image.reshape(90, 60, 3)).name)
    monkeypatch.setattr(stored, "_VERSION", 2)
    names.append(StoredProposer(Proposer(), tmp_path).path(image).name)
    assert len(set(names)) == len(names)


def damages(whole: bytes, other: bytes) -> dict[str, bytes]:
    middle = len(whole) // 2
    return {
        "empty": b"",
        "cut": whole[:middle],
        "flipped": whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :],
        "text": b"no archive",
        "of another image": other,
    }


@pytest.mark.parametrize("kind", ["empty", "cut", "flipped", "text", "of another image"])
def test_a_damaged_file_is_made_anew(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    counting = Counting(monkeypatch)
    kept = StoredProposer(REGIONS, tmp_path)
    first = kept.find(picture())
    kept.find(picture(1))
    path = kept.path(picture())
    whole = path.read_bytes()
    path.write_bytes(damages(whole, kept.path(picture(1)).read_bytes())[kind])
    with caplog.at_level(logging.WARNING, logger="kseg"):
        assert_same(first, kept.find(picture()))
    assert counting.searched == 3
    assert "found again" in caplog.text
    assert_same(first, kept.find(picture()))
    assert counting.searched == 3


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("boxes", lambda boxes: boxes + 100),
        ("boxes", lambda boxes: boxes[:, :3]),
        ("boxes", lambda boxes: boxes[:, [2, 3, 0, 1]]),
        ("scores", lambda scores: scores[::-1]),
        ("scores", lambda scores: scores.astype(np.float64)),
        ("scores", lambda scores: scores * np.float32(np.nan)),
        ("superpixels", lambda ids: ids + 1),
        ("superpixels", lambda ids: ids[1:]),
        ("members", lambda packed: packed[1:]),
        ("count", lambda count: count + 8),
        ("count", lambda count: count * 0),
        ("key", lambda key: key[::-1]),
    ],
)
def test_a_whole_file_with_wrong_content_is_made_anew(
    name: str, change: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting(monkeypatch)
    kept = StoredProposer(REGIONS, tmp_path)
    first = kept.find(picture())
    path = kept.path(picture())
    with np.load(path) as held:
        arrays = {key: held[key] for key in held.files}
    arrays[name] = change(arrays[name])
    np.savez_compressed(path, **arrays)
    assert_same(first, kept.find(picture()))
    assert counting.searched == 2


def test_a_search_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    kept = StoredProposer(REGIONS, tmp_path)
    monkeypatch.setattr(np, "savez_compressed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kept.find(picture())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
