"""What running a finished file takes: megabytes on disk and seconds of import, light install against whole.

    python benchmarks/light_install.py                  # light ones
    python benchmarks/light_install.py --extras litert onnxruntime train

Makes the wheel, installs it with each extra into a fresh environment (pip, network), weighs what was
installed, and times `import kseg` with `kseg.Predictor` and the runtime in new processes, the environments
in turns. Writes `benchmarks/results/light_install.json`.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

from kseg import files

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "light_install.json"
# The runtime of a file of each kind, which Predictor loads.
RUNTIMES = {
    "litert": "import ai_edge_litert.interpreter",
    "onnxruntime": "import onnxruntime",
    "train": "import keras",
}
TIMED = """
import time
start = time.perf_counter()
import kseg
kseg.Predictor
{runtime}
print(time.perf_counter() - start)
"""


def _run(*words: object) -> str:
    return subprocess.run([str(w) for w in words], check=True, capture_output=True, text=True, cwd="/").stdout


def _weight(folder: Path) -> float:
    """Return the megabytes of all files, without pip itself."""
    kept = (path for path in folder.rglob("*") if path.is_file() and "pip" not in path.parts)
    return sum(path.stat().st_size for path in kept) / 1e6


def _installed(wheel: Path, extra: str, folder: Path) -> dict[str, Any]:
    """Install into a fresh environment; return what was installed and its weight."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    _run(python, "-m", "pip", "install", "--quiet", "--constraint", constraints, f"{wheel}[{extra}]")
    site = Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    listed = json.loads(_run(python, "-m", "pip", "list", "--format", "json"))
    return {
        "extra": extra,
        "megabytes": round(_weight(site)),
        "packages": len([entry for entry in listed if entry["name"] not in ("pip", "setuptools", "wheel")]),
        "versions": {entry["name"]: entry["version"] for entry in listed},
    }


def main() -> int:
    """Measure and print one line per extra."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--extras", nargs="+", default=["litert", "onnxruntime"], metavar="EXTRA")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="imports that are timed (5)")
    parser.add_argument("--out", type=Path, default=RESULT, metavar="FILE")
    args = parser.parse_args()
    seconds: dict[str, list[float]] = {extra: [] for extra in args.extras}
    with tempfile.TemporaryDirectory() as place:
        # By way of the sdist: a `build/` left in the tree would get into the wheel.
        _run(sys.executable, "-m", "build", "--outdir", place, ROOT)
        (wheel,) = Path(place).glob("*.whl")
        rows = [_installed(wheel, extra, Path(place) / extra) for extra in args.extras]
        # The first turn reads the disk and is not counted.
        for turn in range(args.repeats + 1):
            for extra in args.extras:
                code = TIMED.format(runtime=RUNTIMES.get(extra, ""))
                took = float(_run(Path(place) / extra / "bin" / "python", "-c", code))
                seconds[extra] += [took] if turn else []
    for row in rows:
        row["import_seconds"] = round(statistics.median(seconds[row["extra"]]), 2)
        print(
            f"kseg[{row['extra']}]: {row['megabytes']} MB, {row['packages']} packages, "
            f"import {row['import_seconds']} s"
        )
    machine = {"python": platform.python_version(), "system": platform.platform()}
    files.write_json(args.out, {"machine": machine, "repeats": args.repeats, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
