"""`kseg verify`: does an artefact still see what the trained model sees?"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from kseg import parsers, tasks

HELP = "compare an artefact with the model it was made from, on real images; exit code 1 beyond the budget"
EXAMPLE = "kseg verify model_int8.tflite --reference runs/fcn8s/model.keras --data DIR --max-miou-drop 1.0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("artefact", metavar="FILE", help="a file that kseg export wrote")
    parser.add_argument(
        "--reference", required=True, metavar="MODEL", help="the .keras file it was made from"
    )
    parser.add_argument("--data", required=True, metavar="SRC", help="folder, tfds:NAME or sample:nuclei")
    parser.add_argument("--split", help="default: val, else test, else train")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N images, at least 8 (default: all)")
    add_budget(parser)
    parser.add_argument(
        "--threads", type=int, metavar="N", help="CPU threads (default: the runtime's choice)"
    )
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")


def add_budget(parser: argparse.ArgumentParser) -> None:
    """Add what a check may find and still pass; `kseg export` takes the same."""
    parser.add_argument(
        "--max-miou-drop",
        type=parsers.points,
        default=1.0,
        metavar="POINTS",
        help="the budget: how far mean IoU may fall (1.0)",
    )
    parser.add_argument(
        "--max-class-drop",
        type=parsers.points,
        metavar="POINTS",
        help="how far the IoU of any one class may fall (default: only the mean counts)",
    )
    parser.add_argument(
        "--allow-near-chance",
        action="store_true",
        help="judge also against a model that is hardly better than guessing; otherwise that fails",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command, write the outcome into the artefact; returns the exit code."""
    import deploy
    from kseg.output import closing_line, print_json, progress

    outcome = deploy.verify(
        args.artefact,
        reference=args.reference,
        data=args.data,
        split=args.split,
        limit=args.limit,
        max_miou_drop=args.max_miou_drop,
        max_class_drop=args.max_class_drop,
        allow_near_chance=args.allow_near_chance,
        threads=args.threads,
        progress=progress,
    )
    spec = deploy.read_spec(args.artefact)
    if outcome.passed is not None and spec.export:
        deploy.embed(args.artefact, spec.replace(export={**spec.export, "verify": outcome.to_dict()}))
    if args.json:
        print_json({"path": args.artefact, "reference": args.reference, **outcome.to_dict()})
    else:
        print_outcome(outcome.to_dict(), tasks.find(spec.task))
    if outcome.passed is False:
        return 1
    closing_line(f"kseg benchmark {args.reference} {args.artefact} --data {args.data}")
    return 0


def print_outcome(verify: Mapping[str, Any], task: tasks.Task) -> None:
    """Print what a check found: a table of classes, then one line with the verdict."""
    from rich.table import Table

    from kseg.output import console

    if verify.get("value") is not None:
        table = Table(
            title=f"{verify['source']} {verify['split']}: {verify['images']} images", title_justify="left"
        )
        table.add_column(f"{task.part_label}, %")
        for head in ("reference", "artefact", "drop"):
            table.add_column(head, justify="right")
        for row in verify["per_class"]:
            if row["reference"] is not None:
                table.add_row(row["class"], *_cells(row["reference"], row["artefact"], row["drop"]))
        table.add_section()
        table.add_row("mean", *_cells(verify["reference"], verify["value"], verify["drop"]), style="bold")
        console.print(table)
        console.print(_fidelity(verify, task), style="dim", soft_wrap=True)
    if verify.get("note"):
        console.print(verify["note"], style="yellow", markup=False, soft_wrap=True)
    passed = verify.get("passed")
    style = "bold yellow" if passed is None else ("bold green" if passed else "bold red")
    verdict = f"verify: {verify['status']}"
    if verify.get("drop") is not None:
        moved = "rose" if verify["drop"] < 0 else "fell"
        verdict += f" ({task.label} {moved} by {abs(verify['drop']):.2f} points, budget {verify['budget']:g})"
    console.print(verdict, style=style, markup=False, soft_wrap=True)
    for reason in verify.get("reasons", ()):
        console.print(f"  {reason}", style="red", markup=False, soft_wrap=True)


def _cells(reference: float, artefact: float, drop: float) -> tuple[str, str, str]:
    return f"{100 * reference:.2f}", f"{100 * artefact:.2f}", f"{drop:+.2f}"


def _fidelity(verify: Mapping[str, Any], task: tasks.Task) -> str:
    parts = [task.agreed.format(share=f"{100 * verify['agreement']:.2f} %")]
    if verify["rms_over_std"] is not None:
        parts.append(
            f"outputs: rms error / std {verify['rms_over_std']:.2g}, largest error {verify['max_abs']:.2g}"
        )
    return "; ".join(parts)
