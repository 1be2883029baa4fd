"""`kseg convert-data`: a data set of another tool becomes a kseg folder, split where it was not."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kseg.data.convert import Conversion

HELP = "convert VOC, Cityscapes, labelme, CVAT, COCO, masks of ids, … to a data folder; make a split"
EXAMPLE = "kseg convert-data labelme_folder --out data/mine --split 80/10/10"
_FORMATS = (
    "auto", "voc", "cityscapes", "labelme", "cvat", "coco", "id-masks", "supervisely", "ade20k", "kseg",
)  # fmt: skip
_MOST_CLASSES = 60
_MOST_BAD = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("source", metavar="FROM", help="the folder, as the tool wrote it (docs/your-data.md)")
    parser.add_argument("--out", required=True, metavar="DIR", help="the new data folder; absent or empty")
    parser.add_argument(
        "--format",
        default="auto",
        metavar="NAME",
        help=f"{', '.join(_FORMATS[1:])} (kseg: a folder of ours, to split it); auto looks for itself (auto)",
    )
    parser.add_argument(
        "--split",
        metavar="A/B/C",
        help="divide into train/val/test by these shares, or A/B into train/val (the data's own splits; "
        "80/10/10 where it has none)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of that division (0)")
    parser.add_argument(
        "--group-by",
        metavar="REGEX",
        help="names with one first group (or match) stay in one split (what stands before the last number)",
    )
    parser.add_argument(
        "--classes", metavar="A,B,...", help="class names in order of id, instead of the data's"
    )
    parser.add_argument(
        "--unlabeled",
        choices=("background", "void"),
        default="background",
        help="what pixels are on which nothing was drawn (background)",
    )
    parser.add_argument(
        "--semantic", action="store_true", help="COCO, id-masks: paint label maps, do not keep instances"
    )
    parser.add_argument(
        "--link",
        choices=("hard", "symlink"),
        default="copy",
        help="link images instead of copying them",
    )
    parser.add_argument("--skip-bad", action="store_true", help="leave out images that are wrong; list them")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Convert, print what became of it, return 0."""
    from kseg.data import convert
    from kseg.output import closing_line, print_json, progress

    done = convert(
        args.source,
        args.format,
        args.out,
        split=args.split,
        seed=args.seed,
        group_by=args.group_by,
        classes=None if args.classes is None else args.classes.split(","),
        unlabeled=args.unlabeled,
        semantic=args.semantic,
        link=args.link,
        skip_bad=args.skip_bad,
        progress=progress,
    )
    if args.json:
        print_json(done.to_dict())
    else:
        _print(done)
        closing_line(f"kseg check-data {args.out}")
    return 0


def _print(done: Conversion) -> None:
    from rich.table import Table
    from rich.text import Text

    from kseg.output import console
    from kseg.text import printable

    def line(text: str, style: str = "") -> None:
        console.print(printable(text), style=style, markup=False, highlight=False, soft_wrap=True)

    images = ", ".join(f"{name} {counts.images}" for name, counts in done.counts.items())
    line(f"{done.format} to {done.out} ({done.kind}, {len(done.classes)} classes): images {images}")
    table = Table("id", box=None, pad_edge=False)
    table.add_column("class", no_wrap=True)
    for name in done.counts:
        table.add_column(f"{name} pixels", justify="right")
    rows = [*enumerate(done.classes[:_MOST_CLASSES])]
    for index, label in rows:
        cells = [f"{counts.pixels[index]:,}" for counts in done.counts.values()]
        table.add_row(str(index), Text(printable(label)), *cells)
    table.add_row("", "void", *(f"{counts.void:,}" for counts in done.counts.values()))
    console.print(table)
    if len(done.classes) > len(rows):
        line(f"... and {len(done.classes) - len(rows)} more classes (see --json)", "dim")
    for note in done.notes:
        line(note)
    for what, count in done.dropped.items():
        line(f"left out: {count} {what}", "yellow")
    for message in done.bad[:_MOST_BAD]:
        line(f"left out as bad: {message}", "yellow")
    if len(done.bad) > _MOST_BAD:
        line(f"... and {len(done.bad) - _MOST_BAD} more bad ones (see --json)", "dim")
