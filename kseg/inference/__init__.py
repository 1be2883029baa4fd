"""Prediction on images of any size, with any runtime. What predicts is the task's; semantic predictors keep
their public names here.
"""

from typing import TYPE_CHECKING

from kseg.inference.evaluate import evaluate
from kseg.inference.runtime import Runtime, load_runtime, runtimes
from kseg.lazy import lazy

if TYPE_CHECKING:
    from kseg.semantic.inference.ensemble import EnsemblePredictor, EnsembleRuntime
    from kseg.semantic.inference.predictor import Predictor
    from kseg.semantic.inference.proposal_predictor import ProposalPredictor

__all__ = [
    "EnsemblePredictor",
    "EnsembleRuntime",
    "Predictor",
    "ProposalPredictor",
    "Runtime",
    "evaluate",
    "load_runtime",
    "runtimes",
]

_SEMANTIC = "kseg.semantic.inference"
__getattr__, __dir__ = lazy(
    __name__,
    {
        "EnsemblePredictor": f"{_SEMANTIC}.ensemble",
        "EnsembleRuntime": f"{_SEMANTIC}.ensemble",
        "Predictor": f"{_SEMANTIC}.predictor",
        "ProposalPredictor": f"{_SEMANTIC}.proposal_predictor",
    },
)
