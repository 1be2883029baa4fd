"""`kseg report`: one self-contained page about a run folder."""

from __future__ import annotations

import argparse

HELP = "write one self-contained HTML page about a run: curves, pictures, scores, exports"
EXAMPLE = "kseg report runs/fcn8s --split val"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("run", metavar="RUN", help="run folder that kseg train made")
    parser.add_argument("--data", metavar="SRC", help="default: the data that the run was trained on")
    parser.add_argument(
        "--split", action="append", metavar="SPLIT", help="repeatable; default: val, and test if there is one"
    )
    parser.add_argument("--examples", type=int, default=8, metavar="N", help="pictures to show (8)")
    parser.add_argument(
        "--out", metavar="FILE.html", help="default: RUN/report.html (and report.json beside it)"
    )
    parser.add_argument("--json", action="store_true", help="print report.json too")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    import deploy
    from kseg.output import closing_line, console, print_json, progress

    page, summary = deploy.report(
        args.run,
        data=args.data,
        splits=args.split or (),
        examples=args.examples,
        out=args.out,
        progress=progress,
    )
    if args.json:
        print_json(summary)
    else:
        console.print(f"wrote {page} ({page.stat().st_size / 1e6:.1f} MB)", markup=False, soft_wrap=True)
    closing_line(f"open {page}")
    return 0
