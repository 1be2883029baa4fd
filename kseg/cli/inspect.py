"""`kseg inspect`: show the Spec inside a file that kseg wrote."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kseg.spec import Spec
from kseg.text import printable

HELP = "show what a model file or an artefact says about itself"
EXAMPLE = "kseg inspect model_int8.tflite --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("file", metavar="FILE", help=".keras, .tflite, .onnx or .engine")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    import deploy
    from kseg.cli.output import closing_line, print_json

    spec = deploy.read_spec(args.file)
    size = Path(args.file).stat().st_size
    if args.json:
        print_json({"file": args.file, "bytes": size, "spec": spec.to_dict()})
        return 0
    _print(args.file, size, spec)
    closing_line(f"kseg predict {args.file} IMAGE_OR_DIR --out predictions")
    return 0


def _print(file: str, size: int, spec: Spec) -> None:
    from rich.table import Table
    from rich.text import Text

    from kseg.cli.output import console

    console.print(f"{file} ({size / 1e6:.2f} MB)", markup=False, highlight=False)
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key, value in _rows(spec):
        table.add_row(printable(key), Text(printable(value)))
    console.print(table)
    console.print(f"{spec.num_classes} classes, void is {spec.ignore_id}", markup=False, highlight=False)
    classes = Table()
    for head in ("id", "class", "colour"):
        classes.add_column(head)
    for index, (name, color) in enumerate(zip(spec.classes, spec.palette, strict=True)):
        swatch = Text("    ", style=f"on rgb({color[0]},{color[1]},{color[2]})")
        classes.add_row(
            str(index), Text(printable(name)), swatch + Text(f" {color[0]} {color[1]} {color[2]}", style="")
        )
    console.print(classes)


def _rows(spec: Spec) -> Iterator[tuple[str, str]]:
    norm = spec.normalization
    yield "architecture", spec.architecture or "unknown (a network made outside kseg.models)"
    yield from _flat("arguments", spec.arch_args)
    yield "task", spec.task
    yield "input size", f"{spec.input_size[0]}x{spec.input_size[1]}" if spec.input_size else "any"
    yield "resize rule", _rule(spec)
    if spec.trained_size:
        yield "trained at", "{}x{}".format(*spec.trained_size)
    yield "normalisation", f"{norm.order}, mean {_list(norm.mean)}, std {_list(norm.std)} (0-255)"
    if spec.export:
        if not spec.export.get("verify"):
            yield "verified", "UNVERIFIED: run kseg verify FILE --reference MODEL.keras --data DIR"
        yield from _flat("export", spec.export)
    yield from _flat("data", spec.data)
    yield from _flat("recipe", spec.recipe)
    yield "written by", f"kseg {spec.kseg_version}" if spec.kseg_version else "unknown"


def _rule(spec: Spec) -> str:
    """Say what the resize rule does to an image of another size."""
    size = f"{spec.input_size[0]}x{spec.input_size[1]}" if spec.input_size else "the input size"
    does = {
        "none": f"the scale stays; smaller images are padded to {size}, larger ones are cut into tiles",
        "stretch": f"both sides are resized to {size}",
        "fit": f"resized to fit into {size}, aspect ratio kept, padded at the bottom and right",
    }
    return f"{spec.resize}: {does[spec.resize]}"


def _flat(name: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Turn nested JSON into rows `name.key: value`."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{name}.{key}", value)
        else:
            yield f"{name}.{key}", _list(value) if isinstance(value, list | tuple) else str(value)


def _list(values: Any) -> str:
    items = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in values]
    return ", ".join(items if len(items) <= 24 else [*items[:24], f"… {len(items)} in all"])
