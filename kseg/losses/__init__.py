"""Losses over integer masks (B, H, W) and logits (B, H, W, C) that leave ignored pixels out.

    loss = kseg.losses.PixelCrossEntropy(ignore_id=255, class_weights=[1.0, 4.0])
    loss = kseg.losses.create("cross_entropy + 0.5*dice", ignore_id=255)

See `PixelLoss` for what all of them share.
"""

from __future__ import annotations

from kseg.losses.base import PixelLoss
from kseg.losses.combined import Combined
from kseg.losses.pixel import Focal, OnlineHardExample, PixelCrossEntropy
from kseg.losses.region import Dice, Jaccard, Lovasz, RegionLoss, Tversky
from kseg.losses.registry import create, names, resolve

__all__ = [
    "Combined",
    "Dice",
    "Focal",
    "Jaccard",
    "Lovasz",
    "OnlineHardExample",
    "PixelCrossEntropy",
    "PixelLoss",
    "RegionLoss",
    "Tversky",
    "create",
    "names",
    "resolve",
]
