"""Prove that everything works on this machine's GPU, in one command, within 8 minutes.

python -m benchmarks.gpu                    # or: make test-gpu
python -m benchmarks.gpu --cpu-rehearsal    # the same road, reduced, where there is no GPU
"""

from __future__ import annotations

import argparse
import datetime
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.children import Clock
from benchmarks.gpu.proof import BACKENDS, REHEARSAL, WHOLE, Proof, installed
from kseg import __version__
from kseg.files import write_json

RESULTS = Path(__file__).resolve().parents[1] / "results"
GPU, CPU = "GPU", "CPU rehearsal: no GPU was used, and no figure here says anything about one"


def main() -> int:
    """Run the proof; return 0 when every check passed, 1 when one failed, 2 when there is nothing to run."""
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=__doc__.split("\n")[0])
    parser.add_argument("--cpu-rehearsal", action="store_true", help="reduced, with the CPU as the device")
    parser.add_argument("--backend", choices=BACKENDS, help="default: all that are installed for the device")
    parser.add_argument("--network", action="append", choices=WHOLE.networks, help="default: all three")
    parser.add_argument("--minutes", type=float, default=8.0, help="end after so long (default: 8)")
    parser.add_argument("--no-engines", action="store_true", help="leave out the engines")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/gpu_DEVICE.json")
    parser.add_argument("--work", type=Path, help="keep the workers' files and logs here")
    args = parser.parse_args()
    backends = [args.backend] if args.backend else installed(args.cpu_rehearsal)
    if not backends:
        print('no backend is installed: pip install "kseg[gpu]" or "kseg[jax-cuda]"')
        return 2
    with tempfile.TemporaryDirectory(prefix="kseg-gpu-") as temporary:
        folder = args.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = prove(args, backends, folder)
    out = args.out or RESULTS / f"gpu_{_device(result)}.json"
    write_json(out, result)
    _print(result, out)
    return 0 if result["passed"] else 1


def prove(args: argparse.Namespace, backends: list[str], folder: Path) -> dict[str, Any]:
    """Prove every backend, then the engines; return the whole result."""
    import dataclasses

    extent = REHEARSAL if args.cpu_rehearsal else WHOLE
    if args.network:
        extent = dataclasses.replace(extent, networks=tuple(args.network))
    started = time.monotonic()
    clock = Clock.of(args.minutes)
    proof = Proof(folder, extent, args.cpu_rehearsal, clock, lambda line: print(line, flush=True))
    parts = {name: proof.backend(name) for name in backends}
    engines = {"not_run": "left out", "checks": []} if args.no_engines else proof.engines()
    checks = [row for part in (*parts.values(), engines) for row in part["checks"]]
    return {
        "kind": CPU if args.cpu_rehearsal else GPU,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "kseg": __version__,
        "passed": bool(checks) and all(row["passed"] for row in checks),
        "checks": len(checks),
        "failed": [row for row in checks if not row["passed"]],
        "seconds": round(time.monotonic() - started, 1),
        "extent": dataclasses.asdict(extent),
        "backends": parts,
        "engines": engines,
    }


def _device(result: dict[str, Any]) -> str:
    """Return the device's name as a part of a file name."""
    if result["kind"] != GPU:
        return "cpu_rehearsal"
    machines = [part["machine"] for part in result["backends"].values() if "machine" in part]
    name = machines[0]["devices"][0]["name"] if machines and machines[0]["devices"] else "unknown"
    return "".join(letter if letter.isalnum() else "_" for letter in name.lower()).strip("_")


def _print(result: dict[str, Any], out: Path) -> None:
    for name, part in result["backends"].items():
        print(f"\n{name}: {part['machine']['runs_on'] if 'machine' in part else 'not looked at'}")
        for row in part.get("throughput", []):
            share = row["share_of_matrix_product"]
            told = f", {share:.1%} of its matrix product" if share else ""
            way = f"{row['policy']}{', XLA' if row['xla'] else ''}"
            speed = f"{row['images_per_s']:.1f} images/s, {row['tflops']:.3g} TFLOP/s"
            print(f"  {row['network']}, {way}: {speed}{told}")
    engines = result["engines"]
    print("\nengines: " + engines.get("not_run", "")) if "not_run" in engines else print("\nengines:")
    for row in engines.get("rows", []):
        measured = "p50_ms" in row
        told = (
            f"p50 {row['p50_ms']:.2f} ms, p95 {row['p95_ms']:.2f} ms, mIoU {row['miou']:.4f}"
            if measured
            else ""
        )
        print(f"  {row['path']}: {told or row['status']}")
    print(f"\n{result['checks']} checks, {len(result['failed'])} failed, {result['seconds']:.0f} s: {out}")
    for row in result["failed"]:
        why = row.get("error") or f"{row['value']} (must be {row['kind']} {row['bound']})"
        print(f"  FAILED {row['check']}: {why}")


if __name__ == "__main__":
    raise SystemExit(main())
