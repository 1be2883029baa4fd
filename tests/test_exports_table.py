"""recipes/exports_table.py prints the table that README and the recipes show."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "recipes" / "exports_table.py"


def test_every_export_is_a_row(tmp_path, capsys):
    main = runpy.run_path(str(SCRIPT))["main"]
    assert main(tmp_path) == 1
    assert "has no exports" in capsys.readouterr().err
    figures = {
        "size_bytes": 5_200_000,
        "ratio": 2.84,
        "miou_drop": 0.031,
        "agreement": 0.997,
        "verify": "passed",
    }
    engine = {"size_bytes": 11_700_000, "verify": "built, not run: no CUDA device"}
    unknown = {"ratio": None, "miou_drop": None, "agreement": None}
    exports = [{"file": "a.tflite", **figures}, {"file": "b.engine", **unknown, **engine}]
    setup = {"processor": "A CPU", "date": "2026-11-28"}
    (tmp_path / "report.json").write_text(json.dumps({"exports": exports, "benchmark": {"setup": setup}}))
    assert main(tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].count("|") == lines[2].count("|") == 7
    dashes = 3 * " \N{EN DASH} |"
    assert lines[2] == "| `a.tflite` | 5.2 | 2.8 | +0.03 | 99.70 % | passed |"
    assert lines[3] == f"| `b.engine` | 11.7 |{dashes} built, not run: no CUDA device |"
    assert lines[-1] == "A CPU, 2026-11-28"
