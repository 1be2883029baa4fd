"""Crops of images to train on, around objects or proposals; and what the objects of an image are."""

from kseg.data.crops.cropping import (
    BLACK,
    KINDS,
    Crop,
    Crops,
    ObjectCrops,
    ProposalCrops,
    argument_names,
    crops,
)

__all__ = ["BLACK", "KINDS", "Crop", "Crops", "ObjectCrops", "ProposalCrops", "argument_names", "crops"]
