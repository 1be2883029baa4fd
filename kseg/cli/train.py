"""`kseg train`: the arguments of `kseg.training.TrainConfig` as options."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kseg import records
from kseg.errors import UsageError
from kseg.text import printable
from kseg.training.config import (
    AUTO,
    CACHES,
    CLASS_WEIGHTS,
    CROPS,
    OPTIMIZERS,
    PRECISIONS,
    RESIZE,
    SAMPLES_PER_IMAGE,
    SAMPLINGS,
    SCHEDULES,
    TRACKERS,
    XLA,
    TrainConfig,
)

HELP = "train a model on a folder, a TFDS set or the embedded sample"
EXAMPLE = "kseg train --model fcn8s --encoder mobilenetv3 --data DIR --epochs 60 --out runs/first"

_AUGMENT = ("flip", "flip_vertical", "scale", "rotation", "color")


def size(text: str) -> list[int]:
    """Read `HxW`, for example `360x480`, or one number for a square."""
    match = re.fullmatch(r"([0-9]{1,30})(?:[x,]([0-9]{1,30}))?", text.strip().lower())
    if match is None or int(match[1]) < 1 or int(match[2] or 1) < 1:
        raise argparse.ArgumentTypeError(
            f"'{printable(text, 60)}' is no size; write HEIGHTxWIDTH, for example 360x480"
        )
    return [int(match[1]), int(match[2] or match[1])]


def mapping(text: str) -> dict[str, Any]:
    """Read a JSON object."""
    where, remedy = f"'{printable(text, 60)}'", "Write for example '{\"width\": 0.25}'"
    try:
        return records.parse(text, dict[str, Any], where=where, error=UsageError, remedy=remedy)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def scale_range(text: str) -> list[float]:
    """Read `LOW-HIGH` or `LOW,HIGH`, for example `0.667-1.5`."""
    match = re.fullmatch(r"([\d.]+)[-,]([\d.]+)", text.strip())
    try:
        low, high = (float(match[1]), float(match[2])) if match else (0.0, 0.0)
    except ValueError:
        low = high = 0.0
    if not 0 < low <= high:
        raise argparse.ArgumentTypeError(f"'{text}' is no range of scales; write for example 0.667-1.5")
    return [low, high]


def whole(least: int) -> Callable[[str], int]:
    """Return a reader of whole numbers that are at least `least`; `TrainConfig` knows the most."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,30}", text.strip()) or int(text) < least:
            raise argparse.ArgumentTypeError(f"'{printable(text, 60)}' must be a whole number >= {least}")
        return int(text)

    return read


def batch_size(text: str) -> int | str:
    """Read a whole number, or `auto`."""
    return AUTO if text.strip().lower() == AUTO else whole(1)(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; none has a default here, so that only those given are compared on resume."""
    run = parser.add_argument_group("run")
    _add(run, "--out", metavar="RUN", required=True, help="run folder that is made")
    stages = 'JSON list of stages, trained one after the other: {"name": ..., arguments of training}'
    _add(run, "--stages", metavar="FILE", help=stages)
    _add(run, "--resume", action="store_true", help="go on behind the last finished epoch of RUN")
    board = run.add_mutually_exclusive_group()
    _add(
        board,
        "--tensorboard",
        action="store_true",
        help="default: if TensorBoard is installed",
    )
    _add(board, "--no-tensorboard", action="store_false", dest="tensorboard", help="write none")
    track = "also send the curves to wandb or mlflow (an extra each); may be given several times"
    _add(run, "--track", action="append", choices=TRACKERS, help=track)
    add_job_arguments(parser)


def add_job_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of data, model, fitting and augmentation."""
    count = whole(1)
    _data_arguments(parser.add_argument_group("data"), count)
    net = parser.add_argument_group("model")
    _add(net, "--model", metavar="NAME", help="model (see: kseg models)")
    _add(net, "--encoder", metavar="NAME", help="encoder, for the models that take one")
    _add(net, "--weights", metavar="W", help="'imagenet' or a file; default: from scratch")
    _add(
        net,
        "--init-from",
        metavar="FILE",
        help="a .keras file whose layers of the same name and shape are taken",
    )
    _add(net, "--freeze", metavar="REGEX", help="do not train the layers whose name holds this")
    _add(
        net,
        "--model-args",
        type=mapping,
        metavar="JSON",
        help="arguments of the model (see: kseg models NAME)",
    )
    seed = "of weights, dropout, shuffling and augmentation (0)"
    _add(net, "--seed", type=whole(0), metavar="N", help=seed)
    _add(net, "--precision", choices=PRECISIONS, help="default: time them here, take the fastest")
    _add(net, "--xla", choices=XLA, help="compile steps by XLA; default: on a GPU time it, on the CPU off")
    _fitting_arguments(parser.add_argument_group("fitting"), count)
    augment = parser.add_argument_group("augmentation")
    _add(augment, "--no-augment", action="store_true", help="train on the images as they are")
    _add(augment, "--flip", type=float, metavar="P", help="probability of a left-right flip")
    _add(augment, "--flip-vertical", type=float, metavar="P", help="probability of an upside-down flip")
    _add(
        augment,
        "--scale",
        type=scale_range,
        metavar="LOW-HIGH",
        help="range of scales, for example 0.667-1.5",
    )
    _add(augment, "--rotation", type=float, metavar="DEGREES", help="largest rotation to either side")
    _add(augment, "--color", type=float, metavar="S", help="strength of the colour change, 0-1")


def _data_arguments(group: Any, count: Callable[[str], int]) -> None:
    _add(group, "--data", metavar="DIR", help="folder, tfds:NAME or sample:nuclei")
    _add(group, "--size", type=size, metavar="HxW", help="network input size; default: that of the images")
    _add(group, "--resize", choices=RESIZE, help="how an image meets --size; default: by their aspect ratios")
    _add(group, "--crop", type=size, metavar="HxW", help="size of the training crops; default: --size")
    _add(group, "--train-split", metavar="SPLIT", help="default: train; slices such as 'train[:90%%]' work")
    _add(group, "--val-split", metavar="SPLIT", help="default: val or validation, if there is one")
    _add(group, "--sampling", choices=SAMPLINGS, help="which labelled pixels are trained on; default: all")
    per_image = f"pixels or patches per image and epoch, for --sampling (default: {SAMPLES_PER_IMAGE})"
    _add(group, "--samples-per-image", type=count, metavar="N", help=per_image)
    _add(
        group, "--crops", choices=CROPS, help="train on crops around labelled objects or on object proposals"
    )
    crops_args = (
        "arguments of the crops: per_image, enlarge, min_size, min_side, fill; of proposals also method, "
        "count, min_iou, replicate, max_side, quality, seed, edge_model"
    )
    _add(group, "--crops-args", type=mapping, metavar="JSON", help=crops_args)
    _add(group, "--limit", type=count, metavar="N", help="use N training images only, evenly spaced")
    _add(group, "--val-limit", type=count, metavar="N", help="use N validation images only, evenly spaced")
    _add(group, "--cache", choices=CACHES, help="decoded images in memory; auto: if they fit")


def _fitting_arguments(group: Any, count: Callable[[str], int]) -> None:
    _add(group, "--epochs", type=count, metavar="N", help=f"default: {TrainConfig.epochs}")
    sizes = f"images per step; auto: as many as fit and pay, found here (default: {TrainConfig.batch_size})"
    _add(group, "--batch-size", type=batch_size, metavar="N", help=sizes)
    _add(group, "--loss", metavar="L", help="for example cross_entropy, focal, cross_entropy+0.5*dice")
    _add(group, "--loss-args", type=mapping, metavar="JSON", help="further arguments of the loss")
    _add(group, "--class-weights", choices=CLASS_WEIGHTS, help=f"default: {TrainConfig.class_weights}")
    power = f"exponent on the class weights; 0.5: square root (default: {TrainConfig.class_weights_power})"
    _add(group, "--class-weights-power", type=float, metavar="P", help=power)
    _add(group, "--optimizer", choices=OPTIMIZERS, help=f"default: {TrainConfig.optimizer}")
    _add(group, "--learning-rate", type=float, metavar="R", help=f"default: {TrainConfig.learning_rate}")
    _add(group, "--momentum", type=float, metavar="M", help=f"of sgd (default: {TrainConfig.momentum})")
    rules = "factors on the learning rate by variable path, for example '{\"bias$\": 2}'"
    _add(group, "--lr-multipliers", type=mapping, metavar="JSON", help=rules)
    _add(group, "--weight-decay", type=float, metavar="D", help=f"default: {TrainConfig.weight_decay}")
    _add(group, "--clip-norm", type=float, metavar="G", help="bound on the gradient's norm; default: none")
    _add(group, "--schedule", choices=SCHEDULES, help=f"default: {TrainConfig.schedule}")
    _add(group, "--warmup-steps", type=whole(0), metavar="N", help="default: 5 %% of the run, at most 150")
    _add(group, "--ema", type=float, metavar="M", help="momentum of the averaged weights, 0: off (0.998)")
    _add(group, "--patience", type=count, metavar="N", help="stop after N epochs without a better val mIoU")
    _add(group, "--val-every", type=count, metavar="N", help="validate every N epochs")
    bn = "after training, measure batch normalisation's statistics over N batches (default: 0, keep averages)"
    _add(group, "--bn-batches", type=whole(0), metavar="N", help=bn)


def _add(group: Any, *names: str, **options: Any) -> None:
    group.add_argument(*names, default=argparse.SUPPRESS, **options)


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `TrainConfig` that the command line holds."""
    given = {key: value for key, value in vars(args).items() if key not in ("debug", "stages")}
    augment = {name: given.pop(name) for name in _AUGMENT if name in given}
    if augment:
        given["augment_args"] = augment
    if given.pop("no_augment", False):
        if augment:
            raise UsageError(f"--no-augment excludes --{next(iter(augment)).replace('_', '-')}")
        given["augment"] = False
    return given


def to_config(args: argparse.Namespace) -> TrainConfig:
    """Return the config; on `--resume` what was not given comes from the run's own record.

    Raises:
        UsageError: if model or data are missing, or a value is out of range.
    """
    given = _given(args)
    if given.get("resume"):
        from kseg.training import record

        before = record.read(Path(given["out"]))
        if before is None:
            _check_no_stages(Path(given["out"]))
        given = {**(before["arguments"] if before else {}), **given}
    missing = [f"--{name}" for name in ("model", "data") if name not in given]
    if missing:
        raise UsageError(
            f"missing {' and '.join(missing)}: see `kseg models` for models; data is a folder, "
            "tfds:NAME or sample:nuclei"
        )
    return TrainConfig.from_dict(given)


def _check_no_stages(out: Path) -> None:
    stages = sorted(path.parent.name for path in out.glob("*/run.json"))
    if stages:
        raise UsageError(
            f"'{out}' holds the stages {', '.join(stages)}: go on with the command that made them, "
            "its --stages and --resume"
        )


def run(args: argparse.Namespace) -> int:
    """Train, then print where the model is and what to do next."""
    from kseg.training import train

    if hasattr(args, "stages"):
        from kseg.training.stages import read_stages, train_stages

        stages = read_stages(args.stages, _given(args))
        config, result = stages[-1], train_stages(stages)[-1]
    else:
        config = to_config(args)
        result = train(config)
    _summary(config, result)
    return 0


def _summary(config: TrainConfig, result: dict[str, Any]) -> None:
    """Print where the model is and what to do next."""
    from kseg.cli.output import closing_line, console
    from kseg.training import record

    score = "no val split" if result["val_miou"] is None else f"val mIoU {100 * result['val_miou']:.2f} %"
    if not result.get("beats_chance", True):
        chance = 100 * result["chance_miou"]
        score += f", no better than what can be had without looking at the image ({chance:.2f} %)"
    console.print(
        f"{result['model']}: {score} (epoch {result['best_epoch']} of {result['epochs']}, "
        f"{result['seconds']:.0f} s, {result['images_per_second']:.1f} {config.examples}/s)",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    splits = (record.read(Path(config.out)) or {})["data"]["splits"]
    held_out = next((name for name in ("test", "val") if name in splits), config.train_split)
    closing_line(f"kseg evaluate {result['model']} --data {config.data} --split {held_out}")
    closing_line(
        f"kseg export {result['model']} --to tflite --precision int8 --data {config.data} "
        f"--out {Path(config.out) / 'model_int8.tflite'}"
    )
