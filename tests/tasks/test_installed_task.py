"""A task of another package is found by every command, its network too, through the entry points alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def test_a_package_brings_its_task_and_its_network(tmp_path: Path) -> None:
    package = tmp_path / "site"
    info = package / "colours-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: colours\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[kseg.tasks]\nmean-color = mean_color:TASK\n")
    (package / "mean_color.py").write_text((FOLDER / "mean_color.py").read_text())
    words = "train --model mean-color-net --data sample:nuclei --limit 4 --val-limit 2 --size 32 --epochs 1"
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "kseg",
            *words.split(),
            "--precision",
            "float32",
            "--out",
            str(tmp_path / "run"),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(package), str(FOLDER.parents[1])])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "val closeness" in ran.stdout
