"""Parts of networks that find instances: anchors, coded boxes, matching, suppression, regions of features.

A box is `(y0, x0, y1, x1)` in pixels of the image, the end exclusive, as in `kseg.boxes`; here it is float32.
Every shape is fixed by arguments: where there may be fewer boxes, rows are filled up and a mask says which
are real.
"""

from kseg.layers.detection.anchors import Anchors, reference_anchors
from kseg.layers.detection.boxes import clip, decode, encode, overlaps
from kseg.layers.detection.cascade import MaskedFeatures, MaskVoting, RefineBoxes, RightMasks
from kseg.layers.detection.losses import BoxLosses, ClassLoss, MaskLoss, RPNLosses, SampleRegions, smooth_l1
from kseg.layers.detection.masks import TRUE_SIDE, MaskTargets, TightBoxes
from kseg.layers.detection.matching import Sample, match
from kseg.layers.detection.proposals import Detections, Proposals
from kseg.layers.detection.pyramid import PyramidRoIAlign
from kseg.layers.detection.regions import RoIAlign, RoIWarp
from kseg.layers.detection.star_losses import CellClassLoss, CellLoss, RayLoss, StarTargets
from kseg.layers.detection.stars import StarDetections, StarMasks
from kseg.layers.detection.suppression import MOST_BOXES, NonMaximumSuppression

__all__ = [
    "MOST_BOXES",
    "TRUE_SIDE",
    "Anchors",
    "BoxLosses",
    "CellClassLoss",
    "CellLoss",
    "ClassLoss",
    "Detections",
    "MaskLoss",
    "MaskTargets",
    "MaskVoting",
    "MaskedFeatures",
    "NonMaximumSuppression",
    "Proposals",
    "PyramidRoIAlign",
    "RPNLosses",
    "RayLoss",
    "RefineBoxes",
    "RightMasks",
    "RoIAlign",
    "RoIWarp",
    "Sample",
    "SampleRegions",
    "StarDetections",
    "StarMasks",
    "StarTargets",
    "TightBoxes",
    "clip",
    "decode",
    "encode",
    "match",
    "overlaps",
    "reference_anchors",
    "smooth_l1",
]
