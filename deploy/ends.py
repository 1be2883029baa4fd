"""The two ends that every artefact has: one input `image`, one output `logits`. numpy only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from kseg.errors import ArtefactError, UsageError
from kseg.text import printable

INPUT, OUTPUT = "image", "logits"


def check_names(path: Path, inputs: Collection[str], outputs: Collection[str]) -> None:
    """Raise ArtefactError unless the file has exactly the two ends."""
    if set(inputs) != {INPUT} or set(outputs) != {OUTPUT}:
        raise ArtefactError(
            f"'{path}' must have one input '{INPUT}' and one output '{OUTPUT}'. "
            f"Received: inputs {sorted(inputs)}, outputs {sorted(outputs)}"
        )


def checked_size(
    path: Path, input_shape: Sequence[object], output_shape: Sequence[object], num_classes: int
) -> tuple[int, int]:
    """Return `(H, W)` of a file that takes `(B, H, W, 3)` and gives `(B, H, W, num_classes)`.

    Raises:
        ArtefactError: if the shapes are others.
    """
    sides = [side for side in tuple(input_shape)[1:3] if isinstance(side, int) and side > 0]
    if (
        len(sides) != 2
        or tuple(input_shape)[1:] != (*sides, 3)
        or tuple(output_shape)[1:] != (*sides, num_classes)
    ):
        raise ArtefactError(
            f"'{printable(path)}' must take images (B, H, W, 3) and give logits (B, H, W, {num_classes}), "
            f"one per class of its spec. Received: {tuple(input_shape)} and {tuple(output_shape)}"
        )
    return sides[0], sides[1]


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
