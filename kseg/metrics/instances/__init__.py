"""Scores of objects: average precision, kinds of errors, recall of proposals. By pycocotools."""

from kseg.metrics.instances.proposals import ProposalRecall
from kseg.metrics.instances.scorer import InstanceScorer

__all__ = ["InstanceScorer", "ProposalRecall"]
