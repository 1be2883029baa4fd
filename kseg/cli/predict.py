"""`kseg predict`: class maps, colour masks and overlays for image files and folders."""

from __future__ import annotations

import argparse
from pathlib import Path

from kseg.cli import predictor_options
from kseg.errors import UsageError

HELP = "write class maps, colour masks and overlays for images and folders"
EXAMPLE = "kseg predict runs/fcn8s/model.keras photos/ extra.jpg --out predictions"

_WRITTEN = ("mask", "color", "overlay")


def _kinds(text: str) -> list[str]:
    from kseg.viz.prediction import KINDS

    kinds = [part.strip() for part in text.split(",")]
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise argparse.ArgumentTypeError(f"expected some of {','.join(KINDS)}, received '{text}'")
    return kinds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    from kseg.viz.prediction import LEGEND_WIDTH

    parser.add_argument(
        "model", metavar="MODEL_OR_ARTEFACT", help=".keras, .tflite, .onnx or .engine that kseg wrote"
    )
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE_OR_DIR", help="image files, folders (with their subfolders)"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="where the pictures go")
    parser.add_argument(
        "--write",
        type=_kinds,
        default=list(_WRITTEN),
        metavar="KINDS",
        help="some of mask (palette PNG of ids), color (colours), overlay (colours over the image, with a "
        f"legend in rows below, at least {LEGEND_WIDTH} pixels wide), plain (the same at the image's size, "
        f"no legend); default: {','.join(_WRITTEN)}",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON listing of what was written")
    predictor_options.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code (2 if an image could not be read)."""
    from kseg.cli.output import closing_line, console, error_line, print_json, progress
    from kseg.inference.image_files import find_images, predict_files

    out = Path(args.out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out must be a folder. Received: '{out}', which is a file")
    paths = find_images(args.images, out)
    predictor = predictor_options.build(args)
    written, failed = predict_files(predictor, paths, out, args.write, progress=progress, say=error_line)
    predictor.close()
    if args.json:
        options = predictor_options.describe(args, predictor)
        print_json({"model": args.model, "options": options, "images": written, "failed": failed})
    else:
        console.print(
            f"{len(written)} of {len(paths)} images written to {out}", markup=False, highlight=False
        )
    if failed:
        if len(paths) > 1:
            error_line(_unread(len(failed), len(paths)))
        return 2
    closing_line(f"kseg evaluate {args.model} --data DIR --split test")
    return 0


def _unread(failed: int, total: int) -> str:
    """Return the last line of a run in which images could not be read."""
    if failed == total:
        return f"none of the {total} images could be read"
    rest = "the other is" if total - failed == 1 else "the others are"
    return f"{failed} of {total} images could not be read; {rest} done"
