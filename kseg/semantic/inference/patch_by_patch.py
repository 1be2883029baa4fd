"""The naive evaluator of patch classification: every patch of an image on its own.

It is what dense evaluation and shift-and-stitch must agree with, and what their speed is measured against.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from kseg.checks import check_choice, whole
from kseg.errors import UsageError
from kseg.models.forms import MAIN, PatchForm

Floats = NDArray[np.float32]


def sliding_window(
    form: PatchForm,
    image: Floats,
    *,
    pixels: Sequence[tuple[int, int]] | None = None,
    batch_size: int = 256,
    head: str = MAIN,
) -> Floats:
    """Classify pixels by the patches around them, whose rest is mirrored where they reach over the border.

    Args:
        form: patch form of a network (`kseg.models.forms.patch_form(model)`).
        image: float32 `(H, W, channels)`, normalised, of any size from 1 x 1.
        pixels: `(y, x)` of the pixels to classify; None: all of them, in rows.
        batch_size: patches per call of the network.
        head: which output, where the form has several: `"logits"` or the name of a head.

    Returns:
        float32 logits `(H, W, classes)`, or `(len(pixels), classes)`.

    Raises:
        UsageError: if the image is no `(H, W, channels)`, a pixel is outside, or there is no such head.

    Example:
        >>> logits = sliding_window(patch_form(model), preprocess(image, spec.normalization))
    """
    if image.ndim != 3 or min(image.shape) < 1:
        raise UsageError(
            f"sliding_window: `image` must be (height, width, channels). Received: shape {image.shape}"
        )
    whole(batch_size, "sliding_window:", "batch_size")
    height, width = image.shape[:2]
    wanted = np.asarray(list(np.ndindex(height, width)) if pixels is None else pixels, np.int64)
    if wanted.ndim != 2 or wanted.shape[1] != 2 or (wanted < 0).any() or (wanted >= (height, width)).any():
        raise UsageError(
            f"sliding_window: `pixels` must be (y, x) inside {height} x {width}. Received: pixels={pixels!r}"
        )
    after = form.size - 1 - form.centre
    border = ((form.centre, after), (form.centre, after), (0, 0))
    padded = np.pad(np.asarray(image, np.float32), border, mode="reflect")
    # (H, W, channels, size, size), a view: nothing is copied until patches are chosen.
    windows = np.lib.stride_tricks.sliding_window_view(padded, (form.size, form.size), axis=(0, 1))
    answers = []
    for first in range(0, len(wanted), batch_size):
        rows, columns = wanted[first : first + batch_size].T
        patches = windows[rows, columns].transpose(0, 2, 3, 1)
        answers.append(_centre(form.model(patches, training=False), head))
    values = np.concatenate(answers)
    return values.reshape(height, width, -1) if pixels is None else values


def _centre(outputs: Any, head: str) -> Floats:
    """Return one head's answers `(B, classes)`."""
    if not isinstance(outputs, dict):
        outputs = {MAIN: outputs}
    check_choice("head", head, outputs, "sliding_window")
    return keras.ops.convert_to_numpy(outputs[head])[:, 0, 0, :]
