"""Several networks with one answer, in both forms of EDeconvNet (Noh, Hong, Han, ICCV 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kseg.checks import check_choice
from kseg.errors import UsageError
from kseg.inference.distributions import log_scores, probabilities
from kseg.inference.pictures import Picture, as_image
from kseg.inference.runtime import Runtime
from kseg.semantic.inference.scored import Floats, ScoredPredictor, gives_log_probabilities
from kseg.spec import Normalization, Spec

if TYPE_CHECKING:
    from kseg.semantic.inference.predictor import Predictor

FORMS = ("mean", "product")


def combine(scores: Sequence[Floats], form: str = "mean", weights: Sequence[float] | None = None) -> Floats:
    """Combine the scores of several networks at the same pixels.

    Args:
        scores: float32 `(..., classes)` each, all of one shape: logits, or logarithms of probabilities.
        form: `"mean"`: logarithm of the mean of their softmax probabilities (the paper's text); `"product"`:
            the first's scores times `max(0, scores)` of each other (the authors' code). Made for a first
            network whose scores are at least 0, as merged proposals are: a class that it scores below 0 then
            stays behind one that another network refuses, and where all are 0 the first class wins.
        weights: of the mean, one positive number per network; default: equal.

    Returns:
        float32 of that shape; its largest value is the ensemble's class.
    """
    if form == "product":
        result = np.array(scores[0], np.float32)
        for other in scores[1:]:
            result *= np.maximum(other, 0)
        return result
    shares = np.ones(len(scores)) if weights is None else np.asarray(weights, np.float64)
    total = np.zeros(scores[0].shape, np.float32)
    for share, values in zip(shares / shares.sum(), scores, strict=True):
        total += np.float32(share) * probabilities(values)
    return log_scores(total)


def _check(specs: Sequence[Spec], form: str, weights: Sequence[float] | None) -> None:
    check_choice("form", form, FORMS)
    if len(specs) < 2:
        raise UsageError(f"An ensemble needs at least two networks. Received: {len(specs)}")
    if weights is not None:
        if form != "mean":
            raise UsageError("Argument `weights` is for the form 'mean'. Received: form='product'")
        values = np.asarray(weights, np.float64)
        if values.shape != (len(specs),) or not np.isfinite(values).all() or (values <= 0).any():
            raise UsageError(
                f"Argument `weights` must be one positive number per network ({len(specs)}). "
                f"Received: weights={weights!r}"
            )
    first = specs[0]
    for number, spec in enumerate(specs[1:], start=2):
        if spec.classes == first.classes:
            continue
        missing = [name for name in first.classes if name not in spec.classes]
        more = [name for name in spec.classes if name not in first.classes]
        parts = [f"only network 1 has {', '.join(missing)}"] if missing else []
        parts += [f"only network {number} has {', '.join(more)}"] if more else []
        raise UsageError(
            "The networks of an ensemble must have the same classes in the same order: "
            f"{'; '.join(parts) or 'the order differs'}. Train them on the same data"
        )


class EnsembleRuntime:
    """Networks that see the same input, as one runtime: at one size, tile by tile, in a `Predictor`.

    Its Spec is the first's; input comes with the first's normalisation and is brought to each other member's.

    Args:
        members: at least two runtimes with the same classes; those that take one size only must agree on it.
        form, weights: see `combine`.

    Attributes:
        log_probabilities: whether the scores are logarithms of probabilities, so never positive.

    Raises:
        UsageError: if members do not fit together, or an argument is unknown or out of range.
    """

    def __init__(
        self, members: Sequence[Runtime], form: str = "mean", weights: Sequence[float] | None = None
    ) -> None:
        _check([member.spec for member in members], form, weights)
        sizes = {tuple(member.input_size) for member in members if member.input_size is not None}
        if len(sizes) > 1:
            found = " and ".join(f"{height}x{width}" for height, width in sorted(sizes))
            raise UsageError(
                f"The networks of an ensemble take images of different sizes: {found}. Export them at one "
                "size, or take EnsemblePredictor, whose members see an image each at its own size"
            )
        self.members, self.form, self.weights = tuple(members), form, weights
        self.input_size = next(
            (member.input_size for member in members if member.input_size is not None), None
        )
        self.spec = members[0].spec
        self.name = "+".join(member.name for member in members)
        self.log_probabilities = form == "mean"

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return combined scores `(B, H, W, classes)` for images `(B, H, W, 3)` normalised for the first."""
        own = self.spec.normalization
        scores = [member(renormalize(images, own, member.spec.normalization)) for member in self.members]
        return combine(scores, self.form, self.weights)

    def close(self) -> None:
        """Free all members."""
        for member in self.members:
            member.close()


def renormalize(images: NDArray[np.float32], have: Normalization, want: Normalization) -> NDArray[np.float32]:
    """Bring float32 `(..., 3)` input from one normalisation to another, the channel order included."""
    if have == want:
        return images
    pixels = images * np.asarray(have.std, np.float32) + np.asarray(have.mean, np.float32)
    if have.order != want.order:
        pixels = pixels[..., ::-1]
    result = (pixels - np.asarray(want.mean, np.float32)) / np.asarray(want.std, np.float32)
    return np.ascontiguousarray(result, np.float32)


class EnsemblePredictor(ScoredPredictor):
    """Predictors combined at the image's own size, each with its own size, rule and normalisation.

    EDeconvNet is `EnsemblePredictor([ProposalPredictor(deconvnet), Predictor(fcn8s)], form)`: DeconvNet sees
    proposals, FCN the whole image.

    Args:
        members: at least two `Predictor`s, or what has their surface, with the same classes. Spec, size and
            runtime that the ensemble shows are the first's.
        form, weights: see `combine`.

    Raises:
        UsageError: if members do not fit together, an argument is unknown or out of range, or the form is
            "product" and a member averages (flips, scales, networks): log-probabilities are never positive.
    """

    def __init__(
        self,
        members: Sequence[Predictor | ScoredPredictor],
        form: str = "mean",
        weights: Sequence[float] | None = None,
    ) -> None:
        _check([member.spec for member in members], form, weights)
        if form == "product" and any(gives_log_probabilities(member) for member in members):
            raise UsageError(
                "The form 'product' multiplies raw scores, and averages over flips, scales or networks are "
                "log-probabilities, which are never positive. Take the form 'mean', or no averages"
            )
        self.members, self.form, self.weights = tuple(members), form, weights
        self.base: Any = members[0]
        self.log_probabilities = form == "mean"

    def set_bias(self, bias: Sequence[float]) -> None:
        """Add one number per class to the logits of every member; see `Predictor`."""
        for member in self.members:
            member.set_bias(bias)

    def logits(self, image: Picture) -> Floats:
        """Return float32 `(H, W, classes)` combined scores at the image's own size."""
        pixels = as_image(image)
        return combine([member.logits(pixels) for member in self.members], self.form, self.weights)

    def close(self) -> None:
        """Free the runtimes of all members."""
        for member in self.members:
            member.close()
