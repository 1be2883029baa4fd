"""Print what became of one trained network on every target as a Markdown table: README's and the recipes'.

Usage, after `exports` of exports.sh:  python recipes/exports_table.py RUN
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def number(value: Any, text: str) -> str:
    """Return a measured number, or a dash where there is none."""
    return "\N{EN DASH}" if value is None else text.format(value)


def row(export: dict[str, Any]) -> str:
    """Return one line of the table."""
    cells = [
        f"`{export['file']}`",
        number(export["size_bytes"] / 1e6, "{:.1f}"),
        number(export["ratio"], "{:.1f}"),
        number(export["miou_drop"], "{:+.2f}"),
        number(None if export["agreement"] is None else 100 * export["agreement"], "{:.2f} %"),
        number(export["verify"], "{}"),
    ]
    return f"| {' | '.join(cells)} |"


def main(run: Path) -> int:
    """Print the table; returns 1 when the run has no report with exports."""
    report = run / "report.json"
    found = json.loads(report.read_text()) if report.is_file() else {}
    if not found.get("exports"):
        print(f"'{report}' has no exports: run recipes/exports.sh and kseg report first", file=sys.stderr)
        return 1
    setup = (found.get("benchmark") or {}).get("setup", {})
    print("| file | MB | speed over Keras | points lost | same class | verify |\n|---|---|---|---|---|---|")
    for export in found["exports"]:
        print(row(export))
    print(f"\n{setup.get('processor', 'unknown processor')}, {setup.get('date', 'not timed')}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
