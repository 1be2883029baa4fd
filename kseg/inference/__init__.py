"""Prediction on images of any size, with any runtime."""

from kseg.inference.evaluate import evaluate
from kseg.inference.predictor import Predictor
from kseg.inference.runtime import Runtime, load_runtime, runtimes

__all__ = ["Predictor", "Runtime", "evaluate", "load_runtime", "runtimes"]
