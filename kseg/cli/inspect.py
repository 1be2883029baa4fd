"""`kseg inspect`: show the Spec inside a file that kseg wrote."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kseg import tasks
from kseg.spec import Spec
from kseg.text import printable

if TYPE_CHECKING:
    from rich.text import Text

    from deploy.exported import Verified

HELP = "show what a model file or an artefact says about itself"
EXAMPLE = "kseg inspect model_int8.tflite --json"

# Class names that one screen has room for; --full shows all.
_MOST_NAMES = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("file", metavar="FILE", help=".keras, .tflite, .onnx or .engine")
    parser.add_argument("--full", action="store_true", help="every field on a line of its own")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    import deploy
    from kseg.output import closing_line, print_json

    spec = deploy.read_spec(args.file)
    size = Path(args.file).stat().st_size
    if args.json:
        print_json({"file": args.file, "bytes": size, "spec": spec.to_dict()})
        return 0
    (_print_full if args.full else _print)(args.file, size, spec)
    closing_line(f"kseg predict {args.file} IMAGE_OR_DIR --out predictions")
    return 0


def _print(file: str, size: int, spec: Spec) -> None:
    """Print what fits one screen: a line per subject, what was left at None left out."""
    from rich.table import Table
    from rich.text import Text

    from deploy.exported import exported
    from kseg.output import console

    console.print(f"{printable(file)} ({size / 1e6:.2f} MB)", markup=False, highlight=False)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in _rows(spec, exported(spec, file).verify):
        table.add_row(printable(key), Text(printable(value)))
        if key == "input":
            table.add_row("classes", _classes(spec))
    console.print(table)


def _classes(spec: Spec) -> Text:
    """Return the names behind swatches, the ignore id last."""
    from rich.text import Text

    line = Text(f"{spec.num_classes}: ")
    for name, color in list(zip(spec.classes, spec.palette, strict=True))[:_MOST_NAMES]:
        line.append("  ", style=f"on rgb({color[0]},{color[1]},{color[2]})")
        line.append(f" {printable(name)}  ")
    line.append("… " if spec.num_classes > _MOST_NAMES else "")
    line.append(f"(void is {spec.ignore_id})")
    return line


def _rows(spec: Spec, verify: Verified) -> Iterator[tuple[str, str]]:
    """Yield the subjects; a record that a later version adds to shows up by itself."""
    norm, export, recipe = spec.normalization, spec.export, spec.recipe
    network = spec.architecture or "unknown: a network made outside kseg.models"
    yield "network", ", ".join(part for part in (network, _brief(spec.arch_args)) if part)
    size = f"{spec.input_size[0]}x{spec.input_size[1]}" if spec.input_size else "any size"
    yield (
        "input",
        f"{size}; {norm.order}, mean {_list(norm.mean)}, std {_list(norm.std)} (0-255)",
    )
    trained = "; trained at {}x{}".format(*spec.trained_size) if spec.trained_size else ""
    yield "resize rule", f"{_rule(spec)}{trained}"
    yield "task", spec.task
    if export:
        yield "export", _brief(export)
        yield "verified", _verified(verify, tasks.find(spec.task))
        for key, value in export.items():
            if isinstance(value, Mapping) and key != "verify":
                yield f"  {key}", _brief(value)
    if spec.data:
        yield "data", _brief(spec.data, deep=True)
    yield from _recipe_rows(recipe)
    yield "written by", f"kseg {spec.kseg_version}" if spec.kseg_version else "unknown"
    yield "more", "kseg inspect FILE --full, or --json"


def _recipe_rows(recipe: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not recipe:
        return
    parts = {key: value for key, value in recipe.items() if isinstance(value, Mapping)}
    plain = _brief({key: value for key, value in recipe.items() if key not in parts})
    if "arguments" in parts:
        yield "recipe", _brief(parts.pop("arguments"), deep=True)
        # Says again, in full, what the arguments asked for.
        parts.pop("resolved", None)
    for key, value in parts.items():
        yield f"  {key}", _brief(value, deep=True)
    if plain:
        yield "  made", plain


def _verified(verify: Verified, task: tasks.Task) -> str:
    """Return the verdict with its figures in a sentence."""
    if verify == type(verify)():
        return "UNVERIFIED: run kseg verify FILE --reference MODEL.keras --data DIR"
    figures = []
    if verify.images:
        figures.append(f"{verify.images} images of {verify.source} {verify.split or ''}".strip())
    if verify.value is not None and verify.reference is not None:
        score = f"{task.label} {100 * verify.value:.1f}"
        figures.append(f"{score}, of the reference {100 * verify.reference:.1f}")
    if verify.drop is not None:
        figures.append(f"lost {verify.drop:+.2f} points of {verify.budget}")
    if verify.agreement is not None:
        figures.append(task.agreed.format(share=f"{100 * verify.agreement:.2f} %"))
    said = [str(verify.status), "; ".join(figures), verify.note]
    return ": ".join(part for part in said if part)


def _brief(values: Mapping[str, Any], *, deep: bool = False) -> str:
    """Return `key value, key value` of what is set; nested records with their keys if `deep`."""
    parts = []
    for key, value in values.items():
        if value is None or value in ("", [], ()) or key.endswith("sha256"):
            continue
        if isinstance(value, Mapping):
            inner = _brief(value, deep=True) if deep else ""
            parts += [f"{key} ({inner})"] if inner else []
        else:
            parts.append(f"{key} {_value(value)}")
    return ", ".join(parts)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "x".join(map(str, value)) if _is_size(value) else f"[{_list(value)}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_size(value: list[Any] | tuple[Any, ...]) -> bool:
    return len(value) == 2 and all(isinstance(side, int) and side > 0 for side in value)


def _print_full(file: str, size: int, spec: Spec) -> None:
    from rich.table import Table
    from rich.text import Text

    from kseg.output import console

    console.print(f"{printable(file)} ({size / 1e6:.2f} MB)", markup=False, highlight=False)
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key, value in _every_field(spec):
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


def _every_field(spec: Spec) -> Iterator[tuple[str, str]]:
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
