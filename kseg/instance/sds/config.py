"""The arguments of a training of SDS."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from kseg.checks import POSITIVE, Range, check_choice, flag, whole
from kseg.data.proposals.searching import METHODS
from kseg.errors import UsageError
from kseg.instance.sds.recipe import Search
from kseg.training import precision

BOX_ALONE = "box"
VARIANTS = ("A", "B", "C", BOX_ALONE)
TRUNKS = ("residual", "caffenet")
PRECISIONS = tuple(name for name in precision.PRECISIONS if name != precision.AUTO)


@dataclass(frozen=True, kw_only=True)
class SDSConfig:
    """Arguments of `train_sds`.

    Args:
        data: where the images with instances are.
        out: the run folder.
        split: what is learned from.
        limit: that many images, evenly spread; None: all.
        variant: `"A"`, `"B"`, `"C"` or `"box"` (R-CNN); see `tuning`.
        trunk: of each pathway: `"residual"` (small, trains from scratch) or `"caffenet"` (the paper's).
        width: factor on its channels.
        size: sides of a crop.
        proposals: method that proposes regions. Those without masks take the variant `"box"`.
        boundaries: `"hed"` or `"color"`; None: as `kseg.data.proposals.Proposer` chooses.
        regions: of an image at most.
        epochs: passes over the images, for each network that is tuned.
        learning_rate: its peak.
        logits_rate: factor on the rate of the last layer; the release's, with pretrained layers below, is 10.
        images: of a batch.
        per_image: regions drawn from each.
        precision: Keras' dtype policy of the tuning.
        svms: whether SVMs are trained; else the softmax decides.
        refiner: whether a refiner is trained, where proposals have masks.
        box_regression: whether boxes are corrected as R-CNN's are, for the variant `"box"`.
        segments: of an image on average, in the semantic output.
        seed: of everything that is drawn.
        resume: go on behind the phases that are done.

    Raises:
        UsageError: if a value is out of range, or two exclude each other.
    """

    data: str
    out: str
    split: str = "train"
    limit: int | None = None
    variant: str = "C"
    trunk: str = "residual"
    width: float = 0.5
    size: int = 64
    proposals: str = "regions"
    boundaries: str | None = None
    regions: int = 2000
    epochs: int = 30
    learning_rate: float = 0.01
    logits_rate: float = 1.0
    images: int = 4
    per_image: int = 32
    precision: str = "float32"
    svms: bool = True
    refiner: bool = True
    box_regression: bool = False
    segments: float = 2.0
    seed: int = 0
    resume: bool = False

    def __post_init__(self) -> None:
        for name, known in (
            ("variant", VARIANTS), ("trunk", TRUNKS), ("precision", PRECISIONS), ("proposals", METHODS),
        ):  # fmt: skip
            check_choice(name, getattr(self, name), known)
        for name in ("size", "regions", "epochs", "images", "per_image"):
            whole(getattr(self, name), "Argument", name)
        whole(self.seed, "Argument", "seed", 0)
        if self.limit is not None:
            whole(self.limit, "Argument", "limit")
        for name in ("learning_rate", "logits_rate", "segments"):
            POSITIVE.check(getattr(self, name), name)
        Range(0, 16, above=True).check(self.width, "width")
        for name in ("svms", "refiner", "box_regression", "resume"):
            flag(getattr(self, name), "Argument", name)
        if self.proposals != "regions" and self.variant != BOX_ALONE:
            raise UsageError(
                f"The variant {self.variant} masks regions, and {self.proposals} gives boxes. "
                "Use variant='box', or proposals='regions'"
            )

        if self.box_regression and self.variant != BOX_ALONE:
            raise UsageError(
                f"Box regression is R-CNN's: use variant='{BOX_ALONE}', or leave it out. "
                f"Received: variant='{self.variant}'"
            )

    @property
    def refines(self) -> bool:
        """Whether a refiner is trained: boxes have nothing to refine."""
        return self.refiner and self.proposals == "regions"

    def search(self) -> Search:
        """Return how regions are proposed, with the boundaries that are chosen here.

        Raises:
            MissingExtraError: if what it takes is not installed.
        """
        return Search(method=self.proposals, boundaries=self.boundaries, count=self.regions).settled()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return dataclasses.asdict(self)
