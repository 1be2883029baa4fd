"""A folder with label maps and COCO instances: the label maps are read, everybody says so, void stays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kseg import data
from kseg.data import check
from kseg.data import open as open_source
from kseg.data.counting.counts import count_classes
from kseg.data.pictures import listing
from kseg.errors import DataError

SIZE = (20, 23)
VOID_SHARE = 20 / (20 * 23)


@pytest.fixture
def both(tmp_path: Path, monkeypatch: Any) -> Path:
    """One row of void in each mask, and instances that know nothing of it."""
    monkeypatch.setattr(listing, "_told", set())
    root = tmp_path / "both"
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for part in ("images", "labels"):
            (root / part / split).mkdir(parents=True)
        image = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
        Image.fromarray(image).save(root / "images" / split / "a.png")
        mask = np.zeros(SIZE, np.uint8)
        mask[5:9, 5:9] = 1
        mask[:, 0] = 255
        Image.fromarray(mask).save(root / "labels" / split / "a.png")
        document = {
            "images": [{"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
            "categories": [{"id": 1, "name": "cell"}, {"id": 2, "name": "other"}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[5, 5, 9, 5, 9, 9, 5, 9]]}
            ],
        }
        (root / f"instances_{split}.json").write_text(json.dumps(document))
    (root / "classes.json").write_text(json.dumps({"classes": ["background", "cell"]}))
    return root


def test_every_way_of_reading_sees_the_void_and_says_which_truth(
    both: Path, tmp_path: Path, capsys: Any
) -> None:
    source = data.open(both, cache_dir=tmp_path / "cache")
    assert "label maps (labels/) and COCO instances" in capsys.readouterr().err
    assert source.kind == "semantic"
    assert source.spec.classes == ("background", "cell")
    mask = source.samples("train")[0].mask
    assert (mask == 255).mean() == pytest.approx(VOID_SHARE)
    report = check(both)
    assert (report.kind, report.ok) == ("semantic", True)
    assert report.splits["train"].counts.void_share() == pytest.approx(VOID_SHARE)
    assert [finding.code for finding in report.findings] == ["two_truths"]
    assert count_classes(source).void_share() == pytest.approx(VOID_SHARE)
    _, masks = data.load(both, cache_dir=tmp_path / "cache")[0]
    assert (masks == 255).mean() == pytest.approx(VOID_SHARE)
    # Once per process is enough.
    assert "COCO instances" not in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check-data", "class-weights"])
def test_the_commands_say_it(both: Path, command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kseg.cli.main", command, str(both)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("label maps (labels/)") + done.stderr.count("label maps (labels/)") == 1


def test_classes_json_chooses_and_then_nothing_needs_saying(both: Path, tmp_path: Path, capsys: Any) -> None:
    for truth, kind, classes in (("labels", "semantic", 2), ("instances", "coco", 3)):
        (both / "classes.json").write_text(json.dumps({"classes": ["background", "cell"], "truth": truth}))
        source = data.open(both, cache_dir=tmp_path / "cache")
        assert (source.kind, source.spec.num_classes) == (kind, classes)
        assert check(both).kind == kind
        assert "two_truths" not in {finding.code for finding in check(both).findings}
    (both / "classes.json").write_text('{"truth": "instances"}')
    assert open_source(both).kind == "coco"
    assert "COCO instances" not in capsys.readouterr().err


def test_without_names_the_message_knows_both_ways(both: Path) -> None:
    (both / "classes.json").unlink()
    for read in (open_source, check):
        with pytest.raises(DataError, match=r'no classes\.json.*"truth": "instances"'):
            read(both)
