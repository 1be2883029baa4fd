"""The two ends that every artefact has: one input `image`, one output `logits`. numpy only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from kseg.errors import ArtefactError, UsageError

INPUT, OUTPUT = "image", "logits"


def check_names(path: Path, inputs: Collection[str], outputs: Collection[str]) -> None:
    """Raise ArtefactError unless the file has exactly the two ends."""
    if set(inputs) != {INPUT} or set(outputs) != {OUTPUT}:
        raise ArtefactError(
            f"'{path}' must have one input '{INPUT}' and one output '{OUTPUT}'. "
            f"Received: inputs {sorted(inputs)}, outputs {sorted(outputs)}"
        )


def checked_images(path: Path, images: np.ndarray, input_shape: Sequence[object]) -> np.ndarray:
    """Return `images` as contiguous float32 `(B, H, W, 3)`; their H, W and 3 must be the file's.

    Args:
        path: the artefact, for the message.
        images: what the caller gave.
        input_shape: the file's own input shape, batch first.

    Raises:
        UsageError: if the shapes differ.
    """
    checked = np.ascontiguousarray(images, np.float32)
    if checked.ndim != 4 or checked.shape[1:] != tuple(input_shape[1:]):
        sides = ", ".join(map(str, input_shape[1:]))
        raise UsageError(f"'{path.name}' takes images of shape (B, {sides}). Received: {checked.shape}")
    return checked
