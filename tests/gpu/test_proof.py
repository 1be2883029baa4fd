"""`make test-gpu` rehearsed on the CPU, its bounds, and the sample it trains on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu import compare, make_masks, sample, throughput, worker  # noqa: E402
from benchmarks.gpu.children import Clock  # noqa: E402
from benchmarks.gpu.proof import REHEARSAL, Proof  # noqa: E402


def proof(folder: Path, minutes: float, *, rehearsal: bool = True) -> Proof:
    return Proof(folder, REHEARSAL, rehearsal, Clock.of(minutes), lambda line: None)


def test_the_masks_that_travel_are_the_samples_own() -> None:
    pytest.importorskip("pycocotools")
    from kseg.data.sources.embedded import EmbeddedSample

    source = EmbeddedSample("nuclei")
    for split in ("train", "val"):
        mine = {item.name: item for item in sample.samples(split)}
        assert len(mine) == source.splits[split]
        for index in range(0, len(mine), 5):
            found, _ = source.stored(split, index)
            np.testing.assert_array_equal(mine[found.name].mask, found.mask)
            np.testing.assert_array_equal(mine[found.name].image, found.image)
    with np.load(sample.MASKS) as stored:
        assert set(stored.files) == set(make_masks.packed())


def arrays(seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    before = [np.ones((3, 3)), np.ones(3)]
    return {
        "losses": np.array([1.0, 0.9, 0.7]),
        "before": before,
        "after": [value + 0.1 for value in before],
        "logits": rng.standard_normal((2, 8, 8, 2)),
    }


def test_equal_trainings_pass_and_each_kind_of_difference_fails() -> None:
    assert all(row["passed"] for row in compare.compare_training("x", "float32", arrays(), arrays()))
    worse = {
        "loss of each step": {"losses": np.array([1.0, 0.9, 0.71])},
        "weights": {"after": [value * 1.05 for value in arrays()["after"]]},
        "same class": {"logits": arrays(1)["logits"]},
        "the loss falls": {"losses": np.array([0.6, 0.9, 0.7])},
        "loss": {"losses": np.array([1.0, np.nan, 0.7])},
    }
    for words, change in worse.items():
        rows = compare.compare_training("x", "float32", {**arrays(), **change}, arrays())
        assert any(words in row["check"] and not row["passed"] for row in rows), words
        json.dumps(rows, allow_nan=False)


def test_arrays_come_back_as_they_were_written(tmp_path: Path) -> None:
    worker.write_arrays(tmp_path / "a.npz", {"one": np.arange(3), "many": [np.zeros(2), np.ones((2, 2))]})
    back = worker.read_arrays(tmp_path / "a.npz")
    np.testing.assert_array_equal(back["one"], np.arange(3))
    assert [value.shape for value in back["many"]] == [(2,), (2, 2)]


def test_peaks_are_found_by_the_gpus_name() -> None:
    assert throughput.peak("NVIDIA A100-SXM4-40GB", "mixed_bfloat16") == 312.0
    assert throughput.peak("Tesla T4", "float32") == 8.1
    assert throughput.peak("NVIDIA Nobody", "float32") is None


def test_what_there_is_no_time_for_is_a_failed_check(tmp_path: Path) -> None:
    (row,) = proof(tmp_path, 0.0).backend("tensorflow")["checks"]
    assert not row["passed"]
    assert "out of time" in row["error"]


def test_without_a_gpu_it_says_so_unless_it_is_rehearsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    (row,) = proof(tmp_path, 5.0, rehearsal=False).backend("tensorflow")["checks"]
    assert row["check"] == "tensorflow sees a GPU"
    assert not row["passed"]


@pytest.mark.parametrize("backend", [pytest.param("tensorflow", marks=pytest.mark.slow), "jax"])
def test_the_rehearsal_passes(backend: str, tmp_path: Path) -> None:
    pytest.importorskip(backend)
    out = tmp_path / "result.json"
    command = [
        "--cpu-rehearsal",
        "--backend",
        backend,
        "--network",
        "U-Net",
        "--minutes",
        "12",
        "--no-engines",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *command, "--out", out, "--work", tmp_path / "work"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(out.read_text())
    assert result["passed"]
    assert result["kind"].startswith("CPU rehearsal")
    part = result["backends"][backend]
    assert part["machine"]["backend"]["name"] == backend
    assert {row["policy"] for row in part["throughput"]} == {"float32", "mixed_bfloat16"}
    assert all(row["images_per_s"] > 0 and row["share_of_matrix_product"] > 0 for row in part["throughput"])
    assert str(tmp_path) not in out.read_text()
