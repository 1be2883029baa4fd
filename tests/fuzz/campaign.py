"""The campaign: mutated files and arguments, kills, full disks, threads, bombs against all that kseg reads.

    make fuzz
    make fuzz FUZZ_ARGS="--cases 2000 --seconds 600 --kinds onnx,tflite"
    make fuzz FUZZ_ARGS="--replay runs/fuzz/failed/onnx-17"

Ends with 1 if a case was a fault. Each of those is kept under `runs/fuzz/failed` with what was spoiled.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import campaign_table  # noqa: E402
from campaign_pool import FAULTS, Case, Pool, Result  # noqa: E402
from cases import Kind  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "runs" / "fuzz"
SHARE_OF_SEED = 10**6


def kinds() -> dict[str, Kind]:
    """Return every kind by its name."""
    import campaign_parts
    import targets_arguments
    import targets_artefacts
    import targets_commands
    import targets_data
    import targets_files

    rooms = (
        targets_artefacts, targets_data, targets_files, targets_commands, targets_arguments, campaign_parts,
    )  # fmt: skip
    return {kind.name: kind for room in rooms for kind in room.KINDS}


def plan(chosen: Sequence[Kind], cases: int, seed: int) -> list[Case]:
    """Share `cases` among the kinds, mixed, so that a run that is stopped has seen of all."""
    whole = sum(int(kind.share) for kind in chosen if kind.whole)
    shares = sum(kind.share for kind in chosen if not kind.whole)
    counts = {
        kind.name: int(kind.share)
        if kind.whole
        else max(1, round(kind.share * max(cases - whole, 0) / shares))
        for kind in chosen
    }
    placed = [((n + 0.5) / count, name, n) for name, count in counts.items() for n in range(count)]
    return [Case(name, seed * SHARE_OF_SEED + n) for _, name, n in sorted(placed)]


def _seeds(again: bool) -> Path:
    """Make a good file of every kind, or take those of the last campaign; return the zip that holds them."""
    import multiprocessing

    path = WORK / "seeds.zip"
    if again or not path.is_file():
        process = multiprocessing.get_context("spawn").Process(target=_make_seeds, args=(path,))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit("The good files could not be made")
    return path


def _make_seeds(path: Path) -> None:
    import tempfile

    import mutators
    import targets_artefacts

    from kseg import files

    with tempfile.TemporaryDirectory() as folder:
        files.write_bytes(path, mutators.zipped(targets_artefacts.make_seeds(Path(folder))))


def _keep(result: Result) -> Path:
    """Keep a case that was a fault, so that it can be looked at and run again."""
    name = result.case.kind.replace(" ", "-").replace(",", "")
    folder = WORK / "failed" / f"{name}-{result.case.number}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / kinds()[result.case.kind].file).write_bytes(result.content)
    values = {**asdict(result.case), "status": result.status, "detail": result.detail}
    (folder / "case.json").write_text(json.dumps(values, indent=1))
    return folder


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, help="begin no case after so many")
    parser.add_argument("--kinds", help="names with commas, or parts of names; default: all")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks/results/fuzz.json", help="and .md beside it"
    )
    parser.add_argument("--replay", type=Path, help="a folder of runs/fuzz/failed")
    parser.add_argument("--list", action="store_true", help="name the kinds and stop")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run the campaign; return 1 if anything was a fault."""
    given, known = _arguments(words), kinds()
    if given.list:
        print("\n".join(known))
        return 0
    WORK.mkdir(parents=True, exist_ok=True)
    # Several may run at once.
    work = WORK / f"work-{os.getpid()}"
    pool = Pool(kinds, work, _seeds(again=given.replay is None), count=given.workers)
    if given.replay:
        told = json.loads((given.replay / "case.json").read_text())
        found: list[Result] = []
        pool.run([Case(told["kind"], told["number"])], found.append)
        shutil.rmtree(work)
        print(found[0].status, found[0].detail)
        return int(found[0].status in FAULTS)
    shutil.rmtree(WORK / "failed", ignore_errors=True)
    wanted = given.kinds.split(",") if given.kinds else [""]
    chosen = [kind for kind in known.values() if any(part in kind.name for part in wanted)]
    cases = plan(chosen, given.cases, given.seed)
    table = campaign_table.Table([kind.name for kind in chosen])
    start, last = time.monotonic(), [0.0]

    def done(result: Result) -> None:
        table.add(result)
        if result.status in FAULTS:
            print(f"{result.status}: {result.case.kind} {result.case.number}: {_keep(result)}", flush=True)
        if time.monotonic() - last[0] > 10:
            last[0] = time.monotonic()
            print(f"{table.cases} of {len(cases)} cases, {table.faults} faults", file=sys.stderr, flush=True)

    pool.run(cases, done, given.seconds)
    shutil.rmtree(work)
    table.write(given.out, planned=len(cases), seed=given.seed, seconds=time.monotonic() - start)
    print(table.markdown())
    return int(table.faults > 0)


if __name__ == "__main__":
    sys.exit(main())
