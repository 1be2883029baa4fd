"""DeconvNet's inference: the network sees one object proposal after the other (Noh, Hong, Han, ICCV 2015)."""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kseg.boxes import Boxes, cut, sides, windows
from kseg.boxes import enlarge as grow_boxes
from kseg.checks import Range, check_choice, whole
from kseg.data.crops import BLACK
from kseg.data.crops.objects import background_id
from kseg.data.proposals import Propose, checked, proposer
from kseg.data.transforms.joint import Color
from kseg.errors import UsageError
from kseg.inference.pictures import Picture, as_image
from kseg.inference.runtime import Runtime
from kseg.semantic.inference.predictor import Predictor
from kseg.semantic.inference.scored import Floats, ScoredPredictor, gives_log_probabilities

if TYPE_CHECKING:
    import keras

MERGES = ("max", "mean")
# 112 pixels in the authors' code, whose images (PASCAL VOC) have a longer side of 500.
MIN_SIDE = 112 / 500


class ProposalPredictor(ScoredPredictor):
    """Scores proposals one by one and merges them, as the authors' code does.

    Proposals are enlarged; those whose shorter side is then below `min_side` are passed over. The first
    `count` of the others are cut from the image (`fill` outside it), stretched to the network's size, and
    their scores, before any softmax, stretched back to the box. Merging does not depend on the order.

    Pixels that no proposal decides (none covers them, or with `merge="max"` none gives any class a positive
    score) are class 0 when that is the background: so in the paper, where boxes are merged onto a canvas of
    zeros. Other data have no class to fall back to; there such pixels get the scores of the whole image,
    which costs one more look, and an image without proposals is what the predictor says of all of it.

    Args:
        source: a `Predictor` (its flip, scales and bias hold for each crop), a Keras model with `.spec`, a
            runtime, or the path of a model file. Files of a fixed size and batch 1 serve as well as any.
        method: `"selective-search"`, `"edge-boxes"`, or anything that gives `(N, 4)` boxes
            `(y0, x0, y1, x1)`, best first, for a uint8 `(H, W, 3)` image.
        count: proposals that are looked at.
        min_side: least shorter side of an enlarged box; from 1 in pixels (112 in the authors' code), below 1
            as a share of the image's longer side. Default 112/500, the same for the paper's images.
        enlarge: of a box about its centre (the training's, 1.2).
        merge: `"max"` of the scores and 0, per class, or their `"mean"` over the boxes that cover a pixel.
        whole_image: look at the whole image as one more box.
        fallback: give undecided pixels the scores of the whole image; None: as told above.
        size: `(height, width)` at which a crop is run; default: the network's fixed size, else its Spec's.
        fill: RGB colour (0-255) outside the image; black in the authors' code.
        **options: of `kseg.data.proposals.Proposer`: quality, max_side, seed, edge_model.

    Attributes:
        base: the predictor of whole images.

    Raises:
        UsageError: if an argument is out of range or does not fit the network.
        MissingExtraError: if OpenCV was installed without its contrib modules.

    Example:
        >>> masks = ProposalPredictor("deconvnet.keras", method="edge-boxes")(["a.jpg", "b.jpg"])
    """

    def __init__(
        self,
        source: Predictor | keras.Model | Runtime | str | os.PathLike[str],
        *,
        method: str | Propose = "selective-search",
        count: int = 50,
        min_side: float = MIN_SIDE,
        enlarge: float = 1.2,
        merge: str = "max",
        whole_image: bool = False,
        fallback: bool | None = None,
        size: tuple[int, int] | None = None,
        fill: Color = BLACK,
        **options: Any,
    ) -> None:
        check_choice("merge", merge, MERGES)
        grow_boxes(np.zeros((0, 4)), enlarge)
        self._propose = proposer(method, **options)
        self.method = method if isinstance(method, str) else getattr(method, "__name__", "own")
        self.count = whole(count, "Argument", "count")
        self.min_side, self.enlarge = float(Range(0).check(min_side, "min_side")), float(enlarge)
        self.merge, self.whole_image, self.fill = merge, bool(whole_image), fill
        self.base = source if isinstance(source, Predictor) else Predictor(source)
        self.fallback = background_id(self.spec) != 0 if fallback is None else bool(fallback)
        self._crops = _crop_predictor(self.base, size)
        if merge == "max" and gives_log_probabilities(self.base):
            raise UsageError(
                "Averages over flips, scales or networks are log-probabilities, which are never above the "
                "canvas of zeros that merge='max' merges onto. Take merge='mean', or no averages"
            )

    @property
    def size(self) -> tuple[int, int] | None:
        """`(height, width)` at which crops are run."""
        return self._crops.size

    @property
    def resize(self) -> str:
        """The rule by which a crop meets that size."""
        return self._crops.resize

    @property
    def log_probabilities(self) -> bool:
        """Whether scores are logarithms of probabilities: means of such, in places no score at all."""
        return gives_log_probabilities(self.base)

    def set_bias(self, bias: Any) -> None:
        """Add one number per class to the network's logits from now on; see `Predictor`."""
        self.base.set_bias(bias)
        self._crops.set_bias(bias)

    def boxes(self, image: NDArray[np.uint8]) -> Boxes:
        """Return the int32 `(N, 4)` boxes that are looked at: enlarged, some reach outside the image.

        Args:
            image: uint8 `(H, W, 3)` RGB.

        Raises:
            UsageError: if a `method` of the caller's own gives other than `(N, 4)` boxes with positive sides.
        """
        grown = grow_boxes(checked(self._propose(image)), self.enlarge)
        least = self.min_side if self.min_side >= 1 else self.min_side * max(image.shape[:2])
        kept = grown[sides(grown).min(axis=1, initial=np.iinfo(np.int32).max) >= least]
        kept = kept[: self.count]
        if self.whole_image:
            kept = np.concatenate([kept, np.array([[0, 0, *image.shape[:2]]], np.int32)])
        return kept

    def logits(self, image: Picture) -> Floats:
        """Return float32 `(H, W, classes)` merged scores at the image's own size.

        With `merge="max"` they are at least 0, apart from pixels of the fallback.
        """
        pixels = as_image(image)
        merged, decided = self._merged(pixels)
        if self.fallback and not decided.all():
            merged[~decided] = self.base.logits(pixels)[~decided]
        return merged

    def _merged(self, pixels: NDArray[np.uint8]) -> tuple[Floats, NDArray[np.bool_]]:
        """Return the merged scores and which pixels they decide."""
        size = (pixels.shape[0], pixels.shape[1])
        canvas = np.zeros((*size, self.spec.num_classes), np.float32)
        covered = np.zeros(size, np.int32)
        for box in self.boxes(pixels):
            inside, within = windows(box, size)
            scores = self._crops.logits(cut(pixels, box, self.fill))[within]
            covered[inside] += 1
            if self.merge == "max":
                canvas[inside] = np.maximum(canvas[inside], scores)
            else:
                canvas[inside] += scores
        if self.merge == "max":
            return canvas, canvas.max(axis=-1) > 0
        canvas /= np.maximum(covered, 1)[..., None]
        return canvas, covered > 0


def _crop_predictor(base: Predictor, size: tuple[int, int] | None) -> Predictor:
    """Return `base` with every image stretched to one size; runtime, flip, scales and bias are shared."""
    fixed = base.runtime.input_size
    wanted = size or fixed or base.size
    if wanted is None:
        raise UsageError(
            "Proposals are stretched to one size, and neither the network nor its Spec has one. "
            "Pass size=(height, width)"
        )
    # Its own checks of the size and of scales, under the rule "stretch".
    checked = Predictor(base.runtime, size=wanted, resize="stretch", scales=base.scales)
    crops = copy.copy(base)
    crops.size, crops.resize = checked.size, checked.resize
    return crops
