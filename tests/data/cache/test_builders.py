"""The cache of data folders: made once, re-made on change, whole or absent, without network."""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from data_folders import make_folder

from kseg import data

pytest.importorskip("tensorflow_datasets")


def entries(cache: Path) -> list[Path]:
    return sorted(path.parent for path in cache.rglob("dataset_info.json"))


def start(folder: Path, cache: Path, before: str = "") -> subprocess.Popen[str]:
    """Open `folder` in another process and print the number of its samples."""
    code = f"""
    {before}
    from kseg import data
    print(len(data.open({str(folder)!r}, cache_dir={str(cache)!r}).samples("train")))
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_made_once_then_remade_when_the_source_changes(tmp_path: Path) -> None:
    folder, cache = make_folder(tmp_path / "d"), tmp_path / "cache"
    data.open(folder, cache_dir=cache).samples("train")
    first = entries(cache)
    stamp = first[0].stat().st_mtime_ns
    data.open(folder, cache_dir=cache).samples("train")
    assert entries(cache) == first
    assert first[0].stat().st_mtime_ns == stamp
    label = folder / "labels/train/000.png"
    os.utime(label, ns=(1, 1))
    (folder / "images/train/003.png").unlink()
    assert len(data.open(folder, cache_dir=cache).samples("train")) == 3
    assert len(entries(cache)) == 1
    assert entries(cache) != first


def test_the_builder_serves_any_tfds_use(tmp_path: Path) -> None:
    source = data.open(make_folder(tmp_path / "d"), cache_dir=tmp_path / "cache")
    builder = source.builder()
    assert builder.info.features["mask"].names == ["a", "b", "c"]
    examples = list(builder.as_dataset(split="train[:50%]").as_numpy_iterator())
    assert [example["name"] for example in examples] == [b"000", b"001"]
    for example, sample in zip(examples, source.samples("train"), strict=False):
        np.testing.assert_array_equal(example["image"], sample.image)
        np.testing.assert_array_equal(example["mask"][..., 0], sample.mask)
    assert len(builder.as_data_source(split="val")) == 2


def test_no_network_and_quiet(tmp_path: Path) -> None:
    block = (
        "import socket\n"
        "    def refuse(*a, **k): raise SystemExit('network')\n"
        "    socket.socket.connect = refuse; socket.getaddrinfo = refuse"
    )
    process = start(make_folder(tmp_path / "d"), tmp_path / "cache", block)
    out, err = process.communicate(timeout=120)
    assert (out.strip(), process.returncode) == ("4", 0)
    assert err.strip() == ""


def test_two_processes_at_once(tmp_path: Path) -> None:
    folder, cache = make_folder(tmp_path / "d", count=30), tmp_path / "cache"
    processes = [start(folder, cache) for _ in range(2)]
    assert [process.communicate(timeout=120)[0].strip() for process in processes] == ["30", "30"]
    assert len(entries(cache)) == 1


def test_a_killed_build_leaves_nothing_that_is_taken_for_whole(tmp_path: Path) -> None:
    folder, cache = make_folder(tmp_path / "d"), tmp_path / "cache"
    slow = (
        "import time, kseg.data.sources.semantic_folder as f\n"
        "    def read(self, item): time.sleep(60)\n"
        "    f.SemanticFolder.read = read"
    )
    process = start(folder, cache, slow)
    deadline = time.monotonic() + 60
    while not list(cache.rglob(".kseg-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(cache.rglob(".kseg-*"))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert entries(cache) == []
    assert len(data.open(folder, cache_dir=cache).samples("train")) == 4
    assert not list(cache.rglob(".kseg-*"))


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".tiff"])
def test_other_image_formats(tmp_path: Path, suffix: str) -> None:
    from kseg.data.pictures.images import read_image

    folder = make_folder(tmp_path / "d", suffix=suffix)
    sample: Any = data.open(folder, cache_dir=tmp_path / "cache").samples("train")[0]
    difference = sample.image.astype(int) - read_image(folder / "images/train" / f"000{suffix}")
    assert np.abs(difference).mean() <= 1.0


def shards(cache: Path) -> list[Path]:
    return sorted(path for path in cache.rglob("*array_record*") if path.is_file())


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


DAMAGE = {
    "record deleted": lambda cache: shards(cache)[0].unlink(),
    "record cut": lambda cache: os.truncate(shards(cache)[0], shards(cache)[0].stat().st_size // 2),
    "record empty": lambda cache: os.truncate(shards(cache)[0], 0),
    "record flipped": lambda cache: _flip(shards(cache)[0]),
    "info is garbage": lambda cache: next(cache.rglob("dataset_info.json")).write_text('{"a": ['),
    "info is another's": lambda cache: next(cache.rglob("dataset_info.json")).write_text("{}"),
    "features are gone": lambda cache: next(cache.rglob("features.json")).unlink(),
    "checksums are garbage": lambda cache: next(cache.rglob("checksums.json")).write_text("[]"),
    "checksums are gone": lambda cache: next(cache.rglob("checksums.json")).unlink(),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_cache_is_noticed_and_made_again(tmp_path: Path, kind: str, capsys: Any) -> None:
    folder, cache = make_folder(tmp_path / "d"), tmp_path / "cache"
    before = [sample.image for sample in data.open(folder, cache_dir=cache).samples("train")]
    capsys.readouterr()
    DAMAGE[kind](cache)
    after = [sample.image for sample in data.open(folder, cache_dir=cache).samples("train")]
    assert len(after) == len(before) == 4
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    # A slow machine also says how far it is.
    said = [line for line in capsys.readouterr().err.splitlines() if "kseg: preparing" not in line]
    assert len(said) == 1
    assert "the data set cache" in said[0]
    assert "making it again" in said[0]
    data.open(folder, cache_dir=cache).samples("train")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", ["record deleted", "record cut", "record flipped", "all of it"])
def test_damage_after_opening_is_mended_while_reading(tmp_path: Path, kind: str, capsys: Any) -> None:
    folder, cache = make_folder(tmp_path / "d", count=40), tmp_path / "cache"
    opened = data.open(folder, cache_dir=cache)
    samples = opened.samples("train")
    shutil.rmtree(cache) if kind == "all of it" else DAMAGE[kind](cache)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda index: samples[index], range(len(samples))))
    for sample in found:
        expected = cv2.imread(str(folder / "images/train" / f"{sample.name}.png"))[..., ::-1]
        np.testing.assert_array_equal(sample.image, expected)
    assert len(entries(cache)) == 1
    assert capsys.readouterr().err.count("making it again") <= 1


def test_a_copied_cache_is_used_as_it_is(tmp_path: Path, capsys: Any) -> None:
    folder, cache = make_folder(tmp_path / "d"), tmp_path / "cache"
    data.open(folder, cache_dir=cache).samples("train")
    for path in cache.rglob("*"):
        os.utime(path, ns=(10**18, 10**18))
    stamp = shards(cache)[0].stat().st_mtime_ns
    data.open(folder, cache_dir=cache).samples("train")
    assert shards(cache)[0].stat().st_mtime_ns == stamp
    assert capsys.readouterr().err == ""


def test_two_processes_that_find_the_same_damage_make_it_once(tmp_path: Path) -> None:
    folder, cache = make_folder(tmp_path / "d", count=30), tmp_path / "cache"
    data.open(folder, cache_dir=cache).samples("train")
    DAMAGE["record cut"](cache)
    processes = [start(folder, cache) for _ in range(2)]
    ends = [process.communicate(timeout=120) for process in processes]
    assert [out.strip() for out, _ in ends] == ["30", "30"]
    assert sum(err.count("making it again") for _, err in ends) == 1
