"""The commands' arguments: numbers, JSON, patterns and names that nobody would type on purpose."""

from __future__ import annotations

import functools
import json
import os
import shutil

import targets_commands
from cases import Kind, Place, rng_of

NUMBERS = (
    "nan",
    "-1",
    "0",
    "1e999",
    "2**40",
    str(2**40),
    str(-(2**63)),
    "0.5",
    "1e-320",
    "9" * 5000,
    "1_0",
    "٣",
    "",
)
SIZES = ("0x0", "1x1", "16x", "axb", "99999999x1", f"{2**63}x{2**63}", "16x24x3", "-1x4", "٣x٣", "16X24")
JSONS = (
    "{}", "[]", "null", "1", '{"a":', '{"width": NaN}', '{"width": 1e999}', '{"width": -1}',
    '{"depth": 1000}',
    '{"depth": ' + "9" * 5000 + "}", "[" * 5000, '{"x": []}', '{"seed": 1099511627776}', '{"0": "a"}',
    '{"255": -1}', '{"gamma": "x", "alpha": []}', '{"per_image": 0}', '"\\ud800"', '{".*": 0}',
    '{"(a+)+": 2}',
)  # fmt: skip
PATTERNS = (
    "",
    "(",
    "[",
    "(?i)",
    "(?i)HEAD",
    "(a+)+$",
    "(.*)*" * 20 + "x",
    "\\",
    "a{99999}",
    "\x1b[31m",
    "x" * 3000,
)
WORDS = (
    "",
    "none",
    "NONE",
    "\n",
    "\x1b[31m",
    "x" * 3000,
    "unet",
    "default",
    "\u202eabc",
    "0",
    "train[:0%]",
    "train[",
    "val",
)

# Options by what they take; `{here}` is the folder of `targets_commands.make_folder`.
_USE = {
    "--size": SIZES,
    "--scales": NUMBERS,
    "--overlap": NUMBERS,
    "--batch-size": NUMBERS[:5],
    "--prior": NUMBERS,
}
_USE |= {"--refine": WORDS, "--proposals": WORDS, "--resize": WORDS, "--ensemble-weights": NUMBERS}
_MODEL = ("{here}/run/m.tflite", "{here}/run/model.keras")
OPTIONS: dict[str, tuple[tuple[str, ...], dict[str, tuple[str, ...]]]] = {
    "predict": (
        (_MODEL[0], "{here}/images/val/a.png", "--out", "{here}/out"),
        {**_USE, "--write": WORDS, "--stitch": NUMBERS},
    ),
    "evaluate": (
        (_MODEL[0], "--data", "{here}"),
        {**_USE, "--limit": NUMBERS, "--split": WORDS, "--min-miou": NUMBERS},
    ),
    "verify": (
        (_MODEL[0], "--reference", _MODEL[1], "--data", "{here}"),
        {"--limit": NUMBERS, "--max-miou-drop": NUMBERS, "--max-class-drop": NUMBERS, "--split": WORDS},
    ),
    "check-data": (("{here}",), {"--id-map": JSONS, "--limit": NUMBERS}),
    "class-weights": (
        ("{here}",),
        {"--scheme": WORDS, "--power": NUMBERS, "--split": WORDS, "--id-map": JSONS},
    ),
    "inspect": ((_MODEL[1],), {"--json": ("",)}),
    "models": ((), {"--json": ("",), "": WORDS}),
    "export": (
        (_MODEL[1], "--no-verify", "--out", "{here}/e.tflite"),
        {
            "--to": WORDS,
            "--precision": WORDS,
            "--size": SIZES,
            "--dynamic": WORDS,
            "--max-miou-drop": NUMBERS,
            "--calibration-images": NUMBERS,
            "--keep-float": PATTERNS,
            "--seed": NUMBERS,
        },
    ),
    "rebuild": ((_MODEL[1], "--out", "{here}/r.keras"), {"--model-args": JSONS}),
    "train": (
        (
            *("--data", "{here}", "--out", "{here}/trained", "--epochs", "1", "--no-tensorboard"),
            *("--model", "unet", "--batch-size", "1", "--limit", "1", "--val-limit", "1"),
        ),
        {
            "--size": SIZES[:-1],
            "--learning-rate": NUMBERS,
            "--seed": NUMBERS,
            "--momentum": NUMBERS,
            "--weight-decay": NUMBERS,
            "--clip-norm": NUMBERS,
            "--ema": NUMBERS,
            "--patience": NUMBERS,
            "--val-every": NUMBERS[:5],
            "--flip": NUMBERS,
            "--rotation": NUMBERS,
            "--color": NUMBERS,
            "--scale": NUMBERS,
            "--class-weights-power": NUMBERS,
            "--model-args": JSONS,
            "--loss-args": JSONS,
            "--lr-multipliers": JSONS,
            "--crops-args": JSONS,
            "--freeze": PATTERNS,
            "--loss": WORDS,
            "--schedule": WORDS,
            "--encoder": WORDS,
            "--train-split": WORDS,
        },
    ),
}
# A training or an export that is not refused takes seconds.
SHARES = {"train": 0.15, "export": 0.15, "verify": 0.3, "rebuild": 0.3}


def make(command: str, seeds: dict[str, bytes], number: int) -> bytes:
    """Return the words of a case as JSON."""
    rng = rng_of(f"arguments {command}", number)
    base, options = OPTIONS[command]
    words = [command, *base]
    for option in rng.sample(sorted(options), min(len(options), rng.choice((1, 1, 2)))):
        value = rng.choice(options[option])
        words += [f"{option}={value}"] if option.startswith("--") and value else [value or option]
    if command == "train" and not any(word.startswith("--model-args") for word in words):
        words += ["--model-args", '{"width": 0.0625, "depth": 2}']
    return json.dumps(words).encode()


def read(command: str, bad: bytes, place: Place) -> str:
    """Run the command; return "read" or "refused"."""
    from kseg.cli.main import main

    here = place.folder
    place.once("folder", lambda: targets_commands.make_folder(here, place.seeds))
    os.chdir(here)
    # NUL cannot be typed, nor can what is no Unicode text.
    words = [word.replace("{here}", str(here)).replace("\0", "") for word in json.loads(bad)]
    try:
        return targets_commands.verdict(*targets_commands.run(words, main))
    finally:
        for name in ("trained", "out"):
            shutil.rmtree(here / name, ignore_errors=True)


KINDS = tuple(
    Kind(
        f"arguments {name}",
        functools.partial(make, name),
        functools.partial(read, name),
        "words.json",
        SHARES.get(name, 0.6),
    )
    for name in OPTIONS
)
