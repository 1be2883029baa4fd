"""`kseg predict`: what a model sees in image files and folders, as pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from kseg import tasks
from kseg.cli import look_options
from kseg.errors import UsageError

HELP = "write class maps, colour masks and overlays for images and folders"
EXAMPLE = "kseg predict runs/fcn8s/model.keras photos/ extra.jpg --out predictions"


def _kinds(text: str) -> list[str]:
    known = dict.fromkeys(kind for name in tasks.names() for kind in tasks.find(name).part("pictures").KINDS)
    kinds = [part.strip() for part in text.split(",")]
    unknown = [kind for kind in kinds if kind not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"expected some of {','.join(known)}, received '{text}'")
    return kinds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
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
        metavar="KINDS",
        help=f"some of {_help()}",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON listing of what was written")
    look_options.add_arguments(parser)


def _help() -> str:
    """Return what each task can write, and what it writes unasked."""
    # Tasks may share their pictures.
    said = dict.fromkeys(tasks.find(name).part("pictures") for name in tasks.names())
    return "; or ".join(f"{each.HELP}; default: {','.join(each.WRITTEN)}" for each in said)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code (2 if an image could not be read)."""
    from kseg.inference.image_files import find_images, predict_files
    from kseg.output import closing_line, console, error_line, print_json, progress

    out = Path(args.out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out must be a folder. Received: '{out}', which is a file")
    paths = find_images(args.images, out)
    predictor = look_options.build(args)
    kinds = args.write or tasks.find(predictor.spec.task).part("pictures").WRITTEN
    written, failed = predict_files(predictor, paths, out, kinds, progress=progress, say=error_line)
    predictor.close()
    if args.json:
        options = look_options.describe(args, predictor)
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
