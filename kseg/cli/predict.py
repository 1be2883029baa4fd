"""`kseg predict`: class maps, colour masks and overlays for image files and folders."""

from __future__ import annotations

import argparse
import errno
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kseg.cli import predictor_options
from kseg.errors import DataError, UsageError
from kseg.text import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kseg.spec import Spec

HELP = "write class maps, colour masks and overlays for images and folders"
EXAMPLE = "kseg predict runs/fcn8s/model.keras photos/ extra.jpg --out predictions"

KINDS = {"mask": "_mask.png", "color": "_color.png", "overlay": "_overlay.jpg", "plain": "_plain.jpg"}
_WRITTEN = ("mask", "color", "overlay")
_JPEG_QUALITY = 90
# JPEG's own limit per side.
_JPEG_SIDE = 65500
_BAND_ROWS = 256
_LEGEND_WIDTH = 240


def _kinds(text: str) -> list[str]:
    kinds = [part.strip() for part in text.split(",")]
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise argparse.ArgumentTypeError(f"expected some of {','.join(KINDS)}, received '{text}'")
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
        default=list(_WRITTEN),
        metavar="KINDS",
        help="some of mask (palette PNG of ids), color (colours), overlay (colours over the image, with a "
        f"legend in rows below, at least {_LEGEND_WIDTH} pixels wide), plain (the same at the image's size, "
        f"no legend); default: {','.join(_WRITTEN)}",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON listing of what was written")
    predictor_options.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code (2 if an image could not be read)."""
    from kseg.cli.output import closing_line, console, error_line, print_json, progress

    out = Path(args.out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out must be a folder. Received: '{out}', which is a file")
    paths = find_images(args.images, out)
    predictor = predictor_options.build(args)
    written: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for path, name in progress(zip(paths, unique_names(paths), strict=True), len(paths), "predicting"):
        try:
            written.append(_predict_one(predictor, path, out, name, args.write))
        except DataError as error:
            failed.append({"image": str(path), "error": str(error)})
            error_line(str(error))
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            reason = f"'{path}': the name of its results is too long for the file system. Shorten the image's"
            failed.append({"image": str(path), "error": reason})
            error_line(reason)
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


def find_images(sources: Sequence[str], out: Path) -> list[Path]:
    """Return the image files that `sources` name, folders with their subfolders, each file once.

    Hidden files, and what lies under `out` (an earlier run's pictures), are left out of folders.

    Raises:
        DataError: if a source does not exist, or a folder has no image.
    """
    from kseg.data.pictures import listing
    from kseg.data.pictures.images import IMAGE_SUFFIXES

    found: dict[Path, None] = {}
    own = out.resolve()
    for source in map(Path, sources):
        if source.is_file():
            found[source] = None
            continue
        if not source.is_dir():
            what = "is neither an image file nor a folder" if source.exists() else "does not exist"
            raise DataError(f"'{printable(source)}' {what}")
        listed = listing.images(source)
        if listed.special:
            listing.tell_once(listing.special_line(listed.special))
        files = [
            path for path in listed.files if own not in path.resolve().parents or own == source.resolve()
        ]
        if not files:
            raise DataError(f"The folder '{printable(source)}' has no image ({', '.join(IMAGE_SUFFIXES)})")
        found.update(dict.fromkeys(files))
    return list(found)


def unique_names(paths: Iterable[Path]) -> list[str]:
    """Return a distinct name per path: its stem where that is enough, else with folder, suffix or a number.

    Names that differ in case only count as the same, because some file systems say so.
    """
    given = list(paths)
    forms: list[Callable[[Path], str]] = [
        lambda path: path.stem,
        lambda path: f"{path.parent.name}_{path.stem}" if path.parent.name else path.stem,
        lambda path: f"{path.parent.name}_{path.stem}_{path.suffix[1:]}",
    ]
    names = [forms[0](path) for path in given]
    for form in forms[1:]:
        counts = Counter(name.lower() for name in names)
        names = [
            form(path) if counts[name.lower()] > 1 else name for path, name in zip(given, names, strict=True)
        ]
    taken: set[str] = set()
    for index, name in enumerate(names):
        number, candidate = 2, name
        while candidate.lower() in taken:
            candidate, number = f"{name}_{number}", number + 1
        taken.add(candidate.lower())
        names[index] = candidate
    return names


def _predict_one(predictor: Any, path: Path, out: Path, name: str, kinds: Sequence[str]) -> dict[str, Any]:
    import numpy as np

    from kseg.data.pictures.images import read_image

    image = read_image(path)
    mask = predictor(image)[0]
    spec = predictor.spec
    counts = np.bincount(mask.reshape(-1), minlength=spec.num_classes)
    entry: dict[str, Any] = {"image": str(path), "id": name, "height": mask.shape[0], "width": mask.shape[1]}
    for kind in kinds:
        target = out / f"{name}{KINDS[kind]}"
        if target.suffix == ".jpg" and max(mask.shape) > _JPEG_SIDE:
            raise DataError(
                f"'{printable(path)}': an overlay JPEG has at most {_JPEG_SIDE} pixels a side. Use "
                "--write mask,color"
            )
        _write(kind, target, image, mask, spec)
        entry[kind] = str(target)
    entry["shares"] = {
        label: round(int(count) / mask.size, 6)
        for label, count in zip(spec.classes, counts, strict=True)
        if count
    }
    return entry


def _write(kind: str, target: Path, image: NDArray[np.uint8], mask: NDArray[Any], spec: Spec) -> None:
    from PIL import Image

    from kseg import files

    if kind == "mask":
        picture = _indexed(mask, spec)
    elif kind == "color":
        picture = Image.fromarray(_painted(None, mask, spec))
    else:
        painted = _painted(image, mask, spec)
        picture = Image.fromarray(painted if kind == "plain" else _above_legend(painted, mask, spec))
    with files.atomic(target) as temporary:
        if target.suffix == ".jpg":
            picture.save(temporary, quality=_JPEG_QUALITY)
        else:
            picture.save(temporary)


def _painted(image: NDArray[np.uint8] | None, mask: NDArray[Any], spec: Spec) -> NDArray[np.uint8]:
    """Colours of the classes, over the image if one is given; by bands, because blending is in floats."""
    import numpy as np

    from kseg import viz

    result = np.empty((*mask.shape, 3), np.uint8)
    outline = viz.outline_width(mask.shape)
    for top in range(0, mask.shape[0], _BAND_ROWS):
        rows = slice(top, top + _BAND_ROWS)
        if image is None:
            result[rows] = viz.colorize(mask[rows], spec)
        else:
            # With the rows that an outline looks at: bands leave no seam.
            above = min(top, outline)
            wide = slice(top - above, top + _BAND_ROWS + outline)
            seen = viz.overlay(image[wide], mask[wide], spec, outline=outline)
            result[rows] = seen[above : above + _BAND_ROWS]
    return result


def _indexed(mask: NDArray[Any], spec: Spec) -> Any:
    """An image whose pixel values are the ids: with a palette up to 256 classes, 16-bit beyond."""
    import numpy as np
    from PIL import Image

    if mask.dtype != np.uint8:
        return Image.fromarray(mask.astype(np.uint16))
    picture = Image.fromarray(mask)
    picture.putpalette([value for color in spec.palette for value in color])
    return picture


def _above_legend(picture: NDArray[np.uint8], mask: NDArray[Any], spec: Spec) -> NDArray[np.uint8]:
    """Put the picture above the legend of the classes in it, on white."""
    import numpy as np

    from kseg import viz

    present = np.flatnonzero(np.bincount(mask.reshape(-1)))
    legend = viz.legend(
        spec,
        present.tolist(),
        width=max(picture.shape[1], _LEGEND_WIDTH),
        text_size=viz.text_size(mask.shape),
    )
    height = picture.shape[0]
    canvas = np.full((height + legend.shape[0], max(picture.shape[1], legend.shape[1]), 3), 255, np.uint8)
    canvas[:height, : picture.shape[1]] = picture
    canvas[height:, : legend.shape[1]] = legend
    return canvas
