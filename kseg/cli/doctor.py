"""`kseg doctor`: what this machine trains and runs on, what is missing, and the remedy."""

from __future__ import annotations

import argparse
from typing import Any

HELP = "say what this machine trains and runs on, what is missing, and the remedy"
EXAMPLE = "kseg doctor --json"

_STYLES = {"error": "red", "warning": "yellow", "note": "dim"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "--measure",
        action="store_true",
        help="time a small network's training steps to choose precision, XLA",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(args: argparse.Namespace) -> int:
    """Examine the machine; exit code 1 when Keras' backend cannot be used."""
    from deploy.doctor import examine
    from kseg.output import closing_line, print_json

    found = examine(measure=args.measure)
    if args.json:
        print_json(found)
    else:
        _print(found)
        closing_line("kseg train --model fcn8s --encoder mobilenetv3 --data DIR --out RUN")
    return 1 if any(item["level"] == "error" for item in found["findings"]) else 0


def _print(found: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from kseg.output import console

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in _rows(found):
        table.add_row(key, Text(value))
    console.print(table)
    formats = Table("format", "precisions", "runs here", "exported here", box=None, pad_edge=False)
    for row in found["formats"]:
        formats.add_row(
            row["format"], ", ".join(row["precisions"]), *map(Text, (row["runs"], row["exports"]))
        )
    console.print(formats)
    for item in found["findings"]:
        line = Text(f"{item['level']}: {item['text']}", style=_STYLES[item["level"]])
        console.print(line, soft_wrap=True)
        console.print(Text(f"    do: {item['remedy']}"), soft_wrap=True)


def _rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    backend, driver = found["backend"], found["driver"]
    cuda = f", built for CUDA {backend['cuda']}" if backend["cuda"] else ""
    newest = f", runs CUDA {driver['cuda']} and older" if driver["cuda"] else ""
    free = found["free_bytes"]
    memory = f", {free / 2**30:.1f} GiB free" if free else ""
    return [
        ("trains on", found["runs_on"]),
        ("backend", f"{backend['name']} {backend['version'] or '(not installed)'}{cuda}"),
        ("devices", "; ".join(_device(device) for device in found["devices"]) or "none"),
        ("driver", f"{driver['version']}{newest} ({driver['found_by']})" if driver["version"] else "none"),
        ("GPUs", "; ".join(_gpu(gpu) for gpu in found["gpus"]) or "none"),
        ("host", f"{found['processor']}, {found['cores']} cores{memory}"),
        ("precision", f"{found['precision']['chosen']}: {found['precision']['reason']}"),
        ("XLA", f"{found['compilation']['chosen']}: {found['compilation']['reason']}"),
        ("libraries", ", ".join(f"{name} {version}" for name, version in found["libraries"].items())),
    ]


def _device(device: dict[str, Any]) -> str:
    size = device["memory_bytes"]
    return f"{device['name']} ({device['kind']}{f', {size / 2**30:.1f} GiB' if size else ''})"


def _gpu(gpu: dict[str, Any]) -> str:
    total, used = gpu["memory_bytes"], gpu["used_bytes"]
    facts = [f"{total / 2**30:.1f} GiB"] if total else []
    facts += [f"{used / 2**30:.1f} GiB in use"] if used is not None else []
    facts += [f"compute capability {gpu['capability']}"] if gpu["capability"] else []
    return f"{gpu['name']}{f' ({chr(44).join(facts)})' if facts else ''}".replace(",", ", ")
