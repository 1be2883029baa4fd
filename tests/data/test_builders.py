"""The cache of data folders: made once, re-made on change, whole or absent, without network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_sources import make_folder

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
        "import time, kseg.data.folders as f\n"
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
    from kseg.data.images import read_image

    folder = make_folder(tmp_path / "d", suffix=suffix)
    sample: Any = data.open(folder, cache_dir=tmp_path / "cache").samples("train")[0]
    difference = sample.image.astype(int) - read_image(folder / "images/train" / f"000{suffix}")
    assert np.abs(difference).mean() <= 1.0
