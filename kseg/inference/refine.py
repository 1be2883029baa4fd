"""The public name of `kseg.semantic.refine`."""

from typing import TYPE_CHECKING

from kseg.lazy import lazy

if TYPE_CHECKING:
    from kseg.semantic.refine import (
        Refined,
        Refiner,
        create,
        describe,
        names,
        parse,
        train_segment_classifier,
    )

__all__ = ["Refined", "Refiner", "create", "describe", "names", "parse", "train_segment_classifier"]

__getattr__, __dir__ = lazy(__name__, dict.fromkeys(__all__, "kseg.semantic.refine"))
