"""What the end-to-end tests share: a small data folder, commands as typed, the form of an error."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
# Lines that may stand on stderr beside an error: progress, and what training says.
_PROGRESS = re.compile(
    r".*(…$|: \d+ …$)|.* has no val split"
    r"|^(runs on|precision|XLA|batch size|epoch|resuming|interrupted after|finding crops:) "
)


@dataclass(frozen=True)
class Ran:
    """One command that ended: exit code and what it printed."""

    code: int
    out: str
    err: str

    def error(self, code: int = 2) -> str:
        """Return the error's line; fail unless there is exactly one, no traceback, this exit code."""
        lines = self.err.strip().splitlines()
        assert self.code == code, self.err
        assert "Traceback" not in self.err
        wrong = [line for line in lines if line.startswith("kseg: ")]
        assert len(wrong) == 1, self.err
        others = [line for line in lines if line not in wrong and not _PROGRESS.match(line)]
        assert others == [], self.err
        return wrong[0]

    def json(self) -> Any:
        """Return what stdout holds, which must be one JSON document and nothing else."""
        return json.loads(self.out)


Kseg = Callable[..., Ran]


def typed(*arguments: object, before: Sequence[str] = ()) -> Ran:
    """Run `python -m kseg ARGUMENTS` in a process of its own, behind the command `before`."""
    command = [*before, sys.executable, "-m", "kseg", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    return Ran(done.returncode, done.stdout, done.stderr)


def private_disk(folder: Path, options: str) -> list[str]:
    """Return the start of a command that sees a tmpfs at `folder`, gone when it ends; or skip."""
    who = [] if os.geteuid() == 0 else ["--map-root-user"]
    script = f'mount -t tmpfs -o {options} tmpfs "$0" && exec "$@"'
    start = ["unshare", *who, "--mount", "sh", "-c", script, str(folder)]
    try:
        tried = subprocess.run([*start, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        pytest.skip(f"no private mount is possible here: {error}")
    if tried.returncode:
        pytest.skip(f"no private mount is possible here: {tried.stderr.strip()}")
    return start


def training(data: Path, out: Path, *more: object) -> list[object]:
    """Return the arguments of the smallest training that there is."""
    net = ["--model", "unet", "--model-args", '{"width": 0.0625}', "--size", "32x32", "--batch-size", 4]
    return ["train", *net, "--epochs", 1, "--data", data, "--out", out, "--no-tensorboard", *more]


def leftovers(folder: Path) -> list[str]:
    """Return the temporaries below `folder`."""
    return [str(path) for path in folder.rglob(".kseg-*")]


def make_data(root: Path) -> Path:
    """Write 8 train and 8 val images of two classes, and a 16-bit, a CMYK and a 1x1 image for train."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for index in range(8):
            mask = rng.integers(0, 2, (4, 4)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
            image = (mask[..., None] * 120 + rng.integers(0, 60, (32, 32, 3))).astype(np.uint8)
            Image.fromarray(image).save(root / "images" / split / f"{index}.png")
            Image.fromarray(mask).save(root / "labels" / split / f"{index}.png")
    odd_images(root / "images" / "train")
    for name, size in (("deep", (32, 32)), ("print", (32, 32)), ("dot", (1, 1))):
        Image.fromarray(np.ones(size, np.uint8)).save(root / "labels" / "train" / f"{name}.png")
    (root / "classes.json").write_text(json.dumps({"classes": ["background", "square"], "void_id": 255}))
    return root


def odd_images(folder: Path) -> None:
    """Write a 16-bit, a CMYK and a 1x1 image."""
    folder.mkdir(parents=True, exist_ok=True)
    ramp = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    Image.fromarray(ramp).save(folder / "deep.png")
    Image.new("CMYK", (32, 32), (10, 200, 30, 4)).save(folder / "print.jpg")
    Image.new("RGB", (1, 1), (9, 9, 9)).save(folder / "dot.png")
