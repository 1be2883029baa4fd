"""Object proposals from a picture alone: boxes that may hold an object, from OpenCV's contrib modules.

No network is asked. What a predictor makes of proposals: `kseg.semantic.inference.proposal_predictor`.
"""

from kseg.data.proposals.searching import METHODS, Propose, Proposer, checked, propose, proposer

__all__ = ["METHODS", "Propose", "Proposer", "checked", "propose", "proposer"]
