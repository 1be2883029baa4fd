"""OpenCV's contrib modules, which not every `cv2` has."""

from __future__ import annotations

from typing import Any

import cv2

from kseg.errors import MissingExtraError


def ximgproc() -> Any:
    """Return `cv2.ximgproc`, or say how to get it."""
    module = getattr(cv2, "ximgproc", None)
    if module is None or not hasattr(module, "createEdgeBoxes"):
        raise MissingExtraError(
            "Object proposals need OpenCV's contrib modules, and this `cv2` has no `ximgproc`. Run: "
            "pip uninstall opencv-python opencv-python-headless, then pip install --force-reinstall "
            "opencv-contrib-python-headless"
        )
    return module
