"""One turn of a file in a benchmark."""

from __future__ import annotations

import time

import numpy as np

from deploy import worker
from deploy.worker import WARM_UP_SECONDS, Worker


class _Settling:
    """A runtime that is slow until it has run for a while, as one whose threads have just woken is."""

    name = "settling"

    def __init__(self) -> None:
        self.since: float | None = None
        self.calls = 0

    def outputs(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.since = self.since or time.perf_counter()
        self.calls += 1
        time.sleep(0.03 if time.perf_counter() - self.since < WARM_UP_SECONDS / 2 else 0.001)
        return {"logits": images}


def test_a_turn_is_timed_when_the_machine_has_settled(tmp_path, monkeypatch) -> None:
    np.save(tmp_path / worker.INPUTS, np.zeros((2, 4, 4, 3), np.float32))
    runtime = _Settling()
    monkeypatch.setattr("deploy.metadata.load", lambda path, threads: runtime)
    measured = Worker("x.tflite", str(tmp_path), (4, 4), "none", 1)
    measured.load()
    seconds = measured.time(4)["seconds"]
    assert len(seconds) == 4
    assert min(seconds) < 0.02
    assert runtime.calls > 4
