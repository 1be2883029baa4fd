"""Object proposals from a picture alone: boxes, or regions with masks, that may hold an object.

Selective search and edge boxes come from OpenCV's contrib modules; regions and, where asked for, edge boxes
stand on a boundary map, that of the HED network or of colours. What a predictor makes of proposals:
`kseg.semantic.inference.proposal_predictor`.
"""

from kseg.data.proposals.found import Proposals
from kseg.data.proposals.searching import METHODS, Propose, Proposer, checked, find, propose, proposer
from kseg.data.proposals.stored import StoredProposer

__all__ = [
    "METHODS",
    "Proposals",
    "Propose",
    "Proposer",
    "StoredProposer",
    "checked",
    "find",
    "propose",
    "proposer",
]
