"""Engines on this device: built from a trained network, run, timed and scored, where a library is there."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

# What a rehearsal runs in their place: the same calls, on the CPU.
REHEARSED = (("onnx", "float32"), ("onnx", "float16"))
BUILT = (("tensorrt", "float32"), ("tensorrt", "float16"))
MAX_DROP = 1.0
# Of these it learns the sample fastest. A network that tells nothing apart loses nothing when converted.
NETWORK = "U-Net"
LEAST_MIOU = 0.6
SUFFIXES = {"onnx": ".onnx", "tensorrt": ".engine"}


def missing() -> str:
    """Return why no engine can be made here; empty: one can."""
    lacking = [name for name in ("tensorflow", "tf2onnx", "onnx") if find_spec(name) is None]
    if not any(find_spec(name) for name in ("tensorrt", "tensorrt_rtx")):
        lacking.append("tensorrt or tensorrt_rtx")
    return f"needs {', '.join(lacking)}" if lacking else ""


def train(folder: Path, *, side: int, epochs: int, thin: bool) -> Path:
    """Train U-Net on the sample and save it; return the file."""
    import keras

    import kseg
    from benchmarks.gpu.networks import build
    from benchmarks.gpu.sample import samples, spec

    model = build(NETWORK, "float32", thin)
    train = samples("train", side)
    images, masks = (np.stack([getattr(item, part) for item in train]) for part in ("image", "mask"))
    batches = kseg.data.from_arrays(images, masks, spec((side, side)), shuffle=True, augment=True)
    steps = epochs * len(batches)
    model.compile(
        keras.optimizers.AdamW(kseg.training.WarmUpCosine(3e-3, steps, steps // 10)),
        kseg.losses.PixelCrossEntropy(),
        jit_compile=False,
    )
    model.fit(batches, epochs=epochs, shuffle=False, verbose=0)
    path = folder / "model.keras"
    kseg.save(model, path, spec=spec((side, side)))
    return path


def measure(
    folder: Path,
    *,
    side: int,
    epochs: int,
    repeats: int,
    thin: bool,
    rehearsal: bool,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Train, export, verify and benchmark.

    Returns:
        `rows` (as `deploy.benchmark` gives them, with p50, p95 and mIoU), `verified` (one per file that could
        be run) and `failures` (one line per file that could not be built).
    """
    import deploy
    from benchmarks.gpu.sample import samples
    from kseg.errors import KsegError

    source = train(folder, side=side, epochs=epochs, thin=thin)
    held_out = samples("val", side)
    made, verified, failures = [], [], []
    wanted = (*BUILT, *(REHEARSED if rehearsal else ()))
    for kind, precision in wanted:
        path = folder / f"model_{precision}{SUFFIXES[kind]}"
        say(f"building {path.name}")
        try:
            deploy.export(source, path, precision=precision, verify=False)
            checked = deploy.verify(path, reference=source, data=held_out, max_miou_drop=MAX_DROP)
        except KsegError as error:
            failures.append(f"{path.name}: {error}")
            continue
        made.append(path)
        verified.append({"file": path.name, **checked.to_dict()})
    benchmark = deploy.benchmark([source, *made], data=held_out, repeats=repeats)
    rows = [{**row, "path": Path(row["path"]).name} for row in benchmark["rows"]]
    return {"rows": rows, "verified": verified, "failures": failures}
