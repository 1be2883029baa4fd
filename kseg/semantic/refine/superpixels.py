"""Superpixels, and one class distribution for each of them.

Farabet, Couprie, Najman, LeCun, "Learning Hierarchical Features for Scene Labeling", TPAMI 2013,
section 4.1; Felzenszwalb and Huttenlocher, "Efficient Graph-Based Image Segmentation", IJCV 2004; Achanta
et al., "SLIC Superpixels Compared to State-of-the-Art Superpixel Methods", TPAMI 2012.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kseg.checks import check_choice
from kseg.errors import require
from kseg.inference.distributions import log_scores, probabilities
from kseg.segments.labels import Labels, region_means
from kseg.semantic.refine.arguments import EXTRA, checked
from kseg.semantic.refine.scores import Floats, Image, check_sizes

METHODS = ("felzenszwalb", "slic")
POOLS = ("mean", "majority")


class Superpixels:
    """Cuts an image into superpixels with scikit-image.

    Args:
        method: `"felzenszwalb"` (the paper's) or `"slic"`.
        scale: felzenszwalb: the larger, the larger the superpixels (k of its paper, in 0-255 units). Default:
            of 10, 20, 50, 100 the best with an LRASPP on 30 images of CamVid's val split.
        sigma: width in pixels of the Gaussian that smooths the image first. The authors' live parser has 3,
            with another scale; 0.8 is Felzenszwalb's.
        min_size: felzenszwalb: pixels of the smallest superpixel; 50 as in the authors' live parser.
        n_segments: slic: about how many superpixels.
        compactness: slic: weight of nearness against colour; the larger, the squarer.

    Raises:
        UsageError: if an argument is out of range.
    """

    def __init__(
        self,
        method: str = "felzenszwalb",
        scale: float = 50.0,
        sigma: float = 0.8,
        min_size: int = 50,
        n_segments: int = 500,
        compactness: float = 10.0,
    ) -> None:
        self.method = check_choice("method", method, METHODS)
        self.scale = checked("scale", scale, 0, 1e9)
        self.sigma = checked("sigma", sigma, 0, 100)
        self.min_size = checked("min_size", min_size, 1, 1e9, whole=True)
        self.n_segments = checked("n_segments", n_segments, 1, 1e9, whole=True)
        self.compactness = checked("compactness", compactness, 1e-6, 1e9)

    def __call__(self, image: Image) -> Labels:
        """Return superpixel ids `(H, W)`, 0 to n-1, each of them present; at least one, whatever the image.

        Args:
            image: uint8 `(H, W, 3)` RGB.

        Raises:
            MissingExtraError: if scikit-image is not installed.
        """
        segmentation = require("skimage.segmentation", EXTRA)
        if image.shape[0] * image.shape[1] == 1:
            return np.zeros(image.shape[:2], np.intp)
        if self.method == "slic":
            labels = segmentation.slic(
                image,
                n_segments=self.n_segments,
                compactness=self.compactness,
                sigma=self.sigma,
                start_label=0,
            )
        else:
            labels = segmentation.felzenszwalb(
                image, scale=self.scale, sigma=self.sigma, min_size=self.min_size
            )
        return np.unique(labels, return_inverse=True)[1].reshape(image.shape[:2])


class SuperpixelPooling:
    """Gives every superpixel one class distribution: the mean over its pixels.

    Args:
        pool: `"mean"` averages the class distributions (the paper), `"majority"` counts the pixels' best
            classes.
        **superpixels: arguments of `Superpixels`.

    Raises:
        UsageError: if an argument is out of range.

    Example:
        >>> scores = SuperpixelPooling(method="slic", n_segments=800)(image, logits)
    """

    def __init__(self, pool: str = "mean", **superpixels: Any) -> None:
        self.pool = check_choice("pool", pool, POOLS)
        self.superpixels = Superpixels(**superpixels)

    def __call__(self, image: Image, logits: Floats) -> Floats:
        """Return float32 `(H, W, C)`: log of the superpixel's distribution, the same at all its pixels."""
        check_sizes(image, logits)
        labels = self.superpixels(image)
        if self.pool == "majority":
            votes = np.eye(logits.shape[-1], dtype=np.float32)[logits.argmax(axis=-1)]
        else:
            votes = probabilities(logits)
        return log_scores(region_means(votes, labels).astype(np.float32))[labels]
