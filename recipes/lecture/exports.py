"""Gather what became of the lecture's nets on every target: one JSON and one Markdown table.

Usage, after exports.sh: python recipes/lecture/exports.py [RUN_FOLDER]   (default: runs/lecture)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from kseg import files

HERE = Path(__file__).parent
NETS = {
    "N4": "family/seed0/n4",
    "PatchNet": "patch/seed0/balanced",
    "FarabetNet, three scales, MLP": "farabet/seed0/three_mlp",
    "CNN1 (plain)": "family/seed0/cnn1",
    "rCNN2": "family/seed0/rcnn2",
    "rCNN3": "rcnn/seed0/rcnn3",
    "FCN-AlexNet": "family/seed0/alexnet",
    "FCN-32s": "fcn/seed0/32s_on",
    "FCN-16s": "fcn/seed0/16s_on",
    "FCN-8s": "fcn/seed0/8s",
    "FCN-8s, learned upsampling": "fcn/seed0/8s_learned",
    "FCN-8s at once": "family/seed0/8s_at_once",
    "FCN-8s, two heads": "family/seed0/8s_two_heads",
    "DeconvNet, 20 epochs": "deconvnet/seed0/switches",
    "DeconvNet, 160 epochs": "deconvnet/seed0/switches_long",
    "DeconvNet, fixed corner, 160 epochs": "deconvnet/seed0/fixed_long",
    "CRFRNN over FCN-8s": "crf/seed0/crfrnn",
    "TextonBoost": "textonboost/seed0/textonboost",
}
# Speeds are those of benchmarks/export_speed.py: a recipe's machine is not quiet.
COLUMNS = ("file", "precision", "verify", "miou", "miou_drop", "agreement", "size_bytes")


def row(export: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of one artefact; what was not measured is None."""
    return {name: export.get(name) for name in COLUMNS}


def cell(export: dict[str, Any] | None) -> str:
    """Return one cell: verification, points lost."""
    if export is None:
        return "not converted"
    if export["miou_drop"] is None:
        return str(export["verify"])
    return f"{export['verify']}, {export['miou_drop']:+.2f}"


def main(runs: Path) -> int:
    """Write the table; returns 1 when no net was exported."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name, folder in NETS.items():
        report = runs / folder / "report.json"
        if report.is_file():
            found[name] = [row(export) for export in json.loads(report.read_text())["exports"]]
    if not found:
        return 1
    files.write_json(HERE / "results" / "exports.json", found)
    kinds = ["model.tflite", "model_float16.tflite", "model_int8.tflite", "model.onnx", "model_float16.onnx"]
    heads = ["TFLite fp32", "fp16", "int8", "ONNX fp32", "fp16", "engines", "int8 MB"]
    lines = [f"| net | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name, exports in found.items():
        by = {export["file"]: export for export in exports}
        engines = [cell(export) for file, export in by.items() if file.endswith(".engine")]
        int8 = by.get("model_int8.tflite")
        megabytes = "-" if int8 is None else f"{int8['size_bytes'] / 1e6:.2f}"
        cells = [cell(by.get(kind)) for kind in kinds]
        engine = ", ".join(sorted(set(engines))) or "not converted"
        lines.append(f"| {name} | {' | '.join(cells)} | {engine} | {megabytes} |")
    text = "\n".join(lines) + "\n"
    files.write_text(HERE / "results" / "exports.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/lecture")))
