"""`kseg class-weights`: weights for the loss, from the pixel counts of a split."""

from __future__ import annotations

import argparse

from kseg.cli.check_data import parse_id_map
from kseg.text import printable

HELP = "Compute class weights for the loss from the pixels of the train split, void left out."
EXAMPLE = "kseg class-weights path/to/data --scheme sqrt_median --mean-one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from kseg.data.counting.weights import SCHEMES

    parser.add_argument("data", metavar="DIR", help="data folder, tfds:NAME or sample:NAME")
    parser.add_argument(
        "--scheme", default="median_frequency", metavar="NAME", help=f"one of {', '.join(SCHEMES)}"
    )
    parser.add_argument("--split", default="train", metavar="NAME", help="split to count (default: train)")
    parser.add_argument("--power", type=float, default=1.0, help="exponent of the weights; <1 damps")
    parser.add_argument("--mean-one", action="store_true", help="scale to a mean of 1 over all pixels")
    parser.add_argument("--palette", metavar="FILE", help="colours of colour masks")
    parser.add_argument("--id-map", metavar="JSON", help="ids to replace, for example '{\"255\": 1}'")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Count, compute and print."""
    from kseg.data.counting.counts import count_classes
    from kseg.data.counting.weights import check_scheme
    from kseg.data.ids import listed
    from kseg.data.sources.formats import open as open_source
    from kseg.errors import DataError
    from kseg.output import closing_line, print_json, progress

    check_scheme(args.scheme)
    source = open_source(args.data, palette=args.palette, id_map=parse_id_map(args.id_map))
    counts = count_classes(source, args.split, progress=progress)
    if counts.other:
        raise DataError(
            f"{printable(args.data)} has ids that are no class: {listed(counts.other)}. "
            f"See: kseg check-data {printable(args.data)}"
        )
    weights = counts.weights(args.scheme, power=args.power, mean_one=args.mean_one)
    values = {
        "data": str(args.data),
        "split": args.split,
        "scheme": args.scheme,
        "power": args.power,
        "mean_one": args.mean_one,
        "classes": list(source.spec.classes),
        "pixels": counts.pixels.tolist(),
        "shares": counts.shares().tolist(),
        "void_share": counts.void_share(),
        "weights": weights.tolist(),
    }
    if args.json:
        print_json(values)
    else:
        _print(values)
        closing_line("loss = kseg.losses.PixelCrossEntropy(class_weights=[...])")
    return 0


def _print(values: dict) -> None:
    from rich.markup import escape
    from rich.table import Table

    from kseg.output import console

    table = Table("id", "class", box=None, pad_edge=False)
    table.add_column(f"{values['split']} %", justify="right")
    table.add_column("weight", justify="right")
    rows = zip(values["classes"], values["shares"], values["weights"], strict=True)
    for index, (name, share, weight) in enumerate(rows):
        table.add_row(str(index), escape(printable(name, 60)), f"{100 * share:.3f}", f"{weight:.4f}")
    console.print(table)
    console.print(f"class_weights={[round(weight, 4) for weight in values['weights']]}", soft_wrap=True)
