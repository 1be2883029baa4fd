"""Several callers, one runtime or one each: calls per second and memory, in interleaved rounds.

python benchmarks/shared_runtime.py model_int8.tflite --callers 4
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import threading
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import psutil

import deploy
from kseg.training import record


def rate(runtimes: list[Any], seconds: float) -> float:
    """Return calls per second of one thread per entry of `runtimes`, all at once for `seconds`."""
    size = runtimes[0].input_size
    image = np.random.default_rng(0).standard_normal((1, *size, 3)).astype(np.float32)
    counts = [0] * len(runtimes)
    end = time.perf_counter() + seconds

    def call(number: int) -> None:
        while time.perf_counter() < end:
            runtimes[number](image)
            counts[number] += 1

    threads = [threading.Thread(target=call, args=(number,)) for number in range(len(runtimes))]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - started)


def measure(file: str, callers: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Compare one runtime for all, with every core, with one per caller that shares the cores among them."""
    memory = psutil.Process().memory_info
    share = max(1, (os.cpu_count() or 1) // callers)
    start = memory().rss
    shared = deploy.load(file)
    rate([shared], 0.2)
    after_one = memory().rss
    own = [deploy.load(file, threads=share) for _ in range(callers)]
    rate(own, 0.2)
    after_all = memory().rss
    found: dict[str, list[float]] = {"one caller": [], "shared": [], "one each": []}
    for _ in range(rounds):
        found["one caller"].append(rate([shared], seconds))
        found["shared"].append(rate([shared] * callers, seconds))
        found["one each"].append(rate(own, seconds))
    for runtime in (shared, *own):
        runtime.close()
    return {
        "calls_per_s": {name: round(statistics.median(values), 1) for name, values in found.items()},
        "one_each_over_shared": round(
            statistics.median(b / a for a, b in zip(found["shared"], found["one each"], strict=True)), 2
        ),
        "mb_of_the_first": round((after_one - start) / 1e6, 1),
        "mb_of_one_each": round((after_all - after_one) / 1e6, 1),
    }


def main() -> None:
    """Print a few lines, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", help="an artefact that kseg export wrote")
    parser.add_argument("--callers", type=int, default=4, help="threads that call at once")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement of a round")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = measure(args.file, args.callers, args.rounds, args.seconds)
    if args.json:
        place = {"machine": record.machine(), "versions": record.versions(), "date": record.now()}
        given = {"file": os.path.basename(args.file), "callers": args.callers, "rounds": args.rounds}
        print(json.dumps({**given, **found, **place}, indent=1))
        return
    for name, value in found["calls_per_s"].items():
        print(f"{name}: {value:.1f} calls/s")
    print(f"{args.callers} callers with a runtime each: {found['one_each_over_shared']:.2f} times the calls")
    print(f"memory: {found['mb_of_the_first']} MB, and {found['mb_of_one_each']} MB for one each")


if __name__ == "__main__":
    main()
