"""`kseg train-sds`: SDS or R-CNN, from images with instances to a model file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kseg import parsers
from kseg.errors import UsageError
from kseg.text import printable

if TYPE_CHECKING:
    from kseg.instance.sds.config import SDSConfig

HELP = "train SDS or R-CNN: networks on crops of proposed regions, SVMs, refinement"
EXAMPLE = "kseg train-sds --data DIR --out runs/sds --variant B --size 64 --epochs 30"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments; those that are not given stay with the defaults of `SDSConfig`."""
    from kseg.data.proposals import METHODS
    from kseg.instance.sds.config import PRECISIONS, TRUNKS, VARIANTS

    options = parser.add_argument_group("run")
    _add(options, "data", metavar="SRC", help="folder or sample:nuclei, with instances")
    _add(options, "out", metavar="RUN", required=True, help="the run folder that is made")
    _add(options, "split", metavar="NAME", help="which split to learn from (train)")
    _add(options, "limit", type=parsers.positive, metavar="N", help="N images, evenly spread")
    _add(options, "seed", type=parsers.seed, help="of everything that is drawn (0)")
    _add(
        options,
        "resume",
        action="store_true",
        help="go on behind the phases that are done, with the arguments of the run",
    )
    options = parser.add_argument_group("system")
    _add(
        options,
        "variant",
        choices=VARIANTS,
        help="A: one network, tuned on boxes, is both pathways; B: boxes and masked regions are tuned apart; "
        "C: both of B are tuned together; box: boxes alone, R-CNN (C)",
    )
    _add(options, "trunk", choices=TRUNKS, help="small, or the paper's (residual)")
    _add(options, "width", type=float, metavar="W", help="factor on its channels (0.5)")
    _add(options, "size", type=parsers.positive, metavar="N", help="sides of a crop; the paper's is 227 (64)")
    _add(options, "no_svms", action="store_true", help="let the softmax decide, not SVMs")
    _add(options, "no_refiner", action="store_true", help="leave regions as proposed")
    _add(options, "box_regression", action="store_true", help="correct boxes as R-CNN does (--variant box)")
    _add(
        options,
        "segments",
        type=float,
        metavar="N",
        help="pasted segments of an image on average, in the semantic output (2)",
    )
    options = parser.add_argument_group("proposals")
    _add(options, "proposals", choices=METHODS, help="boxes take --variant box (regions)")
    _add(options, "boundaries", choices=("hed", "color"), help="that regions stand on (hed, if installed)")
    _add(options, "regions", type=parsers.positive, metavar="N", help="of an image at most (2000)")
    options = parser.add_argument_group("fitting")
    _add(options, "epochs", type=parsers.positive, metavar="N", help="of each network that is tuned (30)")
    _add(options, "learning_rate", type=float, metavar="RATE", help="its peak (0.01)")
    _add(
        options,
        "logits_rate",
        type=float,
        metavar="FACTOR",
        help="on the rate of the last layer, twice that of its constants; the release's is 10 (1)",
    )
    _add(options, "images", type=parsers.positive, metavar="N", help="of a batch (4)")
    _add(options, "per_image", type=parsers.positive, metavar="N", help="regions drawn from each (32)")
    _add(options, "precision", choices=PRECISIONS, help="(float32)")


def _add(group: argparse._ArgumentGroup, name: str, **options: Any) -> None:
    group.add_argument(f"--{name.replace('_', '-')}", default=argparse.SUPPRESS, **options)


def _config(given: dict[str, Any]) -> SDSConfig:
    """Return the arguments; of a run that goes on, those that were not given come from its record."""
    from kseg import records
    from kseg.instance.sds.config import SDSConfig
    from kseg.training import record

    before = record.read(Path(given["out"])) if given.get("resume") else None
    every = {**(before["arguments"] if before else {}), **given}
    if "data" not in every:
        raise UsageError("missing --data: a folder or sample:nuclei, with instances")
    if before is None:
        return SDSConfig(**every)
    where = f"'{printable(given['out'])}', `arguments` of run.json"
    return records.convert(every, SDSConfig, where=where, error=UsageError)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from kseg.instance.sds.training import train_sds
    from kseg.output import closing_line, console

    given = {name: value for name, value in vars(args).items() if name != "debug"}
    for name in ("svms", "refiner"):
        if given.pop(f"no_{name}", False):
            given[name] = False
    config = _config(given)
    phases = train_sds(config)
    model = Path(config.out) / "model.keras"
    seconds = sum(phase["seconds"] for phase in phases.values())
    counts = phases["proposals"]
    console.print(
        f"{printable(model)}: {counts['objects']} objects and {counts['regions']} regions of "
        f"{counts['images']} images, {seconds:.0f} s",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    closing_line(f"kseg evaluate {model} --data {config.data}")
    return 0
