"""Refinement of a network's scores by looking at the image: superpixels, random fields, purity trees."""

from kseg.semantic.refine.refined import Refined
from kseg.semantic.refine.registry import create, describe, names, parse
from kseg.semantic.refine.scores import Refiner
from kseg.semantic.refine.segment_training import train_segment_classifier

__all__ = ["Refined", "Refiner", "create", "describe", "names", "parse", "train_segment_classifier"]
