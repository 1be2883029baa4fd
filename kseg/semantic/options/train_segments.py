"""`kseg train-segments`: the classifier of segments that `--refine tree-cover:classifier=FILE` takes."""

from __future__ import annotations

import argparse

from kseg import parsers
from kseg.semantic.options import refine
from kseg.text import printable

HELP = "train the segment classifier of a network, for --refine tree-cover:classifier=FILE"
EXAMPLE = "kseg train-segments runs/farabet/model.keras --data DIR --out segments.keras"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("model", metavar="MODEL", help="a .keras file that kseg wrote")
    parser.add_argument("--data", required=True, metavar="SRC", help="folder, tfds:NAME or sample:nuclei")
    parser.add_argument("--split", default="train", help="which split to learn from (train)")
    parser.add_argument("--limit", type=parsers.positive, metavar="N", help="N images, evenly spread")
    parser.add_argument("--out", required=True, metavar="FILE.keras", help="the classifier's file")
    parser.add_argument("--layer", default="features", help="whose output are the features (features)")
    for name, default, text in (
        ("grid", 3, "cells per side of the pooling; 3 and 5 are both told of the paper"),
        ("hidden", 1024, "units of the hidden layer"),
        ("epochs", 20, "passes over the segments"),
        ("per-image", 64, "segments drawn from an image"),
    ):
        parser.add_argument(
            f"--{name}", type=parsers.positive, default=default, metavar="N", help=f"{text} ({default})"
        )
    parser.add_argument("--seed", type=parsers.seed, default=0, help="of drawing and training (0)")
    parser.add_argument(
        "--tree",
        type=refine.tree_arguments,
        default={},
        metavar="key=value,...",
        help="linkage, smoothing and arguments of superpixels; give the same to tree-cover",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from kseg import data
    from kseg.output import closing_line, console, print_json
    from kseg.semantic.refine import train_segment_classifier

    samples = data.open(args.data).samples(args.split, limit=args.limit)
    superpixels = dict(args.tree)
    tree = {name: superpixels.pop(name) for name in ("linkage", "smoothing") if name in superpixels}
    given = {name: getattr(args, name) for name in ("layer", "grid", "hidden", "epochs", "per_image", "seed")}
    result = train_segment_classifier(args.model, samples, args.out, superpixels=superpixels, **tree, **given)
    if args.json:
        print_json({"model": args.model, "out": args.out, **result})
        return 0
    last = f"KL {result['kl'][-1]:.3f}, their mean histogram: {result['kl_prior']:.3f}"
    console.print(
        f"{printable(args.out)}: {result['segments']} segments, {last}", markup=False, highlight=False
    )
    closing_line(f"kseg evaluate {args.model} --data DIR --refine tree-cover:classifier={args.out}")
    return 0
