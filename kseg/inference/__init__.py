"""Prediction on images of any size, with any runtime."""

from kseg.inference.ensemble import EnsemblePredictor, EnsembleRuntime
from kseg.inference.evaluate import evaluate
from kseg.inference.predictor import Predictor
from kseg.inference.proposal_predictor import ProposalPredictor
from kseg.inference.runtime import Runtime, load_runtime, runtimes

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
