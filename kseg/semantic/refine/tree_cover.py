"""Segmentation tree and optimal purity cover as a refiner."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kseg.checks import check_choice
from kseg.errors import UsageError
from kseg.inference.distributions import log_scores, probabilities
from kseg.segments.labels import Labels, region_sums
from kseg.segments.tree import LINKAGES, SegmentTree
from kseg.semantic.refine.arguments import checked
from kseg.semantic.refine.scores import Floats, Image, check_sizes
from kseg.semantic.refine.superpixels import Superpixels
from kseg.semantic.refine.tree import build_tree, entropy, optimal_cover

if TYPE_CHECKING:
    from kseg.semantic.refine.segment_classifier import SegmentClassifier
    from kseg.spec import Spec


class TreeCover:
    """Gives every pixel the class histogram of the purest segment that holds it.

    Superpixels are merged into a tree of nested segments; each segment has a class histogram; a pixel takes,
    among all segments that hold it, the one whose histogram has the least entropy (Farabet et al., TPAMI
    2013, section 4.3).

    A segment's histogram is what a classifier says of its features (the paper; `train_segment_classifier`
    makes one), or, without a classifier, the mean of the network's distributions over it. That mean
    is confident wherever one class fills most of a segment, so small objects go under in large ones.

    Args:
        classifier: a file of `train_segment_classifier`, or one that is open; default: none.
        linkage: see `tree.build_tree`.
        smoothing: width in pixels of the Gaussian before border contrasts are measured; 0: none.
        **superpixels: arguments of `Superpixels`, the tree's leaves.

    Raises:
        UsageError: if an argument is out of range.
        ArtefactError: if the classifier's file is missing or something else.
    """

    def __init__(
        self,
        classifier: SegmentClassifier | str | os.PathLike[str] | None = None,
        linkage: str = "average",
        smoothing: float = 1.0,
        **superpixels: Any,
    ) -> None:
        self.linkage = check_choice("linkage", linkage, LINKAGES)
        self.smoothing = checked("smoothing", smoothing, 0, 100)
        self.superpixels = Superpixels(**superpixels)
        if isinstance(classifier, str | os.PathLike):
            from kseg.semantic.refine.segment_classifier import SegmentClassifier

            classifier = SegmentClassifier(classifier)
        self.classifier = classifier

    @property
    def spec(self) -> Spec | None:
        """The Spec of the classifier; None without one."""
        return None if self.classifier is None else self.classifier.spec

    def __call__(self, image: Image, logits: Floats) -> Floats:
        """Return float32 `(H, W, C)`: log of the histogram of each pixel's purest segment.

        Raises:
            UsageError: if the classifier has another number of classes than the logits.
        """
        check_sizes(image, logits)
        labels = self.superpixels(image)
        tree = build_tree(labels, image, self.linkage, self.smoothing)
        histograms = self._histograms(image, logits, labels, tree)
        cover = optimal_cover(tree, entropy(histograms))
        return log_scores(histograms[cover].astype(np.float32))[labels]

    def _histograms(
        self, image: Image, logits: Floats, labels: Labels, tree: SegmentTree
    ) -> NDArray[np.float64]:
        """Return float64 `(2n-1, C)`: the class histogram of every node."""
        if self.classifier is None:
            sums = tree.sums(region_sums(probabilities(logits), labels))
            return sums / sums.sum(axis=1, keepdims=True)
        if self.classifier.spec.num_classes != logits.shape[-1]:
            raise UsageError(
                f"The segment classifier has {self.classifier.spec.num_classes} classes, the logits have "
                f"{logits.shape[-1]}. Train it on the network and the data that you use it with"
            )
        return self.classifier.histograms(image, labels, tree)

    def close(self) -> None:
        """Free the classifier."""
        if self.classifier is not None:
            self.classifier.close()
