"""The fully connected conditional random field over pixels, as post-processing in NumPy.

Krähenbühl, Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS 2011.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from kseg.checks import check_choice
from kseg.errors import DataError, UsageError
from kseg.inference.distributions import log_softmax
from kseg.inference.geometry import by_channels
from kseg.semantic.refine.arguments import checked
from kseg.semantic.refine.permutohedral import Permutohedral
from kseg.semantic.refine.scores import Floats, Image, check_sizes

Filter = Callable[[Floats], Floats]
NORMALIZATIONS = ("symmetric", "after")
# The spatial Gaussian is cut off where it has fallen below 4e-4.
_CUT = 4.0


@dataclass(frozen=True)
class Preset:
    """Parameters of the two kernels; see `DenseCRF`."""

    w1: float
    theta_alpha: float
    theta_beta: float
    w2: float
    theta_gamma: float
    iterations: int
    normalization: str = "symmetric"


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "msrc": Preset(10, 61, 11, 1, 1, 10),
        "deeplab1": Preset(7.5, 75, 6.5, 3, 3, 10),
        "deeplab2": Preset(4, 67, 3, 3, 1, 10),
        "deconvnet": Preset(5, 20, 3, 3, 3, 10),
        "crf-rnn": Preset(5, 160, 3, 3, 3, 10, "after"),
        "pydensecrf": Preset(10, 80, 13, 3, 3, 5),
    }
)


@dataclass(frozen=True)
class Kernel:
    """One Gaussian kernel between all pairs of pixels.

    Args:
        weight: factor, not negative.
        filter: float32 `(H, W, C)` -> `(H, W, C)`: the sum over all pixels, itself among them, of value times
            kernel, normalised.
    """

    weight: float
    filter: Filter


def normalized(filter: Filter, shape: tuple[int, int], rule: str) -> Filter:
    """Return `filter` K with its normalisation, n being the filtered ones.

    Args:
        filter: float32 `(H, W, C)` -> `(H, W, C)`.
        shape: `(H, W)`.
        rule: `"symmetric"`: K between two divisions by sqrt(n); `"after"`: K, then a division by n.
    """
    ones: Floats = np.maximum(filter(np.ones((*shape, 1), np.float32)), np.finfo(np.float32).tiny)
    if rule == "after":
        inverse: Floats = np.float32(1) / ones
        return lambda values: filter(values) * inverse
    scale = (1 / np.sqrt(ones)).astype(np.float32)
    return lambda values: scale * filter(scale * values)


def spatial_filter(theta: float) -> Filter:
    """Return the Gaussian of distance, standard deviation `theta` pixels, zero outside the image."""
    reach = max(1, round(_CUT * theta))

    def filter(values: Floats) -> Floats:
        # No two pixels are further apart than the image is long.
        steps = min(reach, max(1, max(values.shape[:2]) - 1))
        taps = np.exp(-0.5 * (np.arange(-steps, steps + 1) / theta) ** 2).astype(np.float32)
        return by_channels(
            lambda part: cv2.sepFilter2D(part, -1, taps, taps, borderType=cv2.BORDER_CONSTANT), values
        )

    return filter


def bilateral_filter(image: Image, theta_alpha: float, theta_beta: float) -> Filter:
    """Return the Gaussian of distance (pixels) and colour difference (0-255), on a permutohedral lattice."""
    height, width, channels = image.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32) / theta_alpha
    features = np.dstack([columns, rows, image.astype(np.float32) / theta_beta])
    lattice = Permutohedral(features.reshape(-1, 2 + channels))
    return lambda values: lattice(values.reshape(height * width, -1)).reshape(values.shape)


def mean_field(
    logits: Floats,
    kernels: Sequence[Kernel],
    *,
    iterations: int,
    damping: float = 0.0,
    compatibility: NDArray[np.float32] | None = None,
) -> Iterator[Floats]:
    """Yield log Q, float32 `(H, W, C)`, before the first and after every iteration.

    Args:
        logits: `(H, W, C)`; the unary energy is minus their log-softmax.
        kernels: see `Kernel`.
        iterations: how many.
        damping: share of the old Q in the new one, in [0, 1).
        compatibility: `(C, C)` energy of two labels on a pair of pixels; None: Potts.
    """
    unary = -log_softmax(logits)
    log_q = -unary
    yield log_q
    for _ in range(iterations):
        new = log_softmax(-unary - pairwise_energy(np.exp(log_q), kernels, compatibility))
        if damping:
            new = np.logaddexp(new + np.float32(np.log1p(-damping)), log_q + np.float32(np.log(damping)))
        log_q = new
        yield log_q


def pairwise_energy(
    q: Floats, kernels: Sequence[Kernel], compatibility: NDArray[np.float32] | None
) -> Floats:
    """Return the energy of every label at every pixel given Q everywhere, `(H, W, C)`.

    Potts, an energy of 1 for unequal labels, is up to a constant -1 for equal ones.
    """
    message = np.zeros_like(q)
    for kernel in kernels:
        message += np.float32(kernel.weight) * kernel.filter(q)
    return -message if compatibility is None else message @ compatibility.T


def free_energy(
    log_q: Floats,
    logits: Floats,
    kernels: Sequence[Kernel],
    compatibility: NDArray[np.float32] | None = None,
) -> float:
    """Return KL(Q || P) up to the constant log Z: what the mean field minimises.

    With Potts (or any symmetric compatibility that is negative definite up to constants), symmetric
    normalisation and exact Gaussian kernels, no iteration raises it, damped or not: the pairwise part is then
    concave in Q (a Gaussian kernel with its own pixel is positive definite), and an iteration minimises the
    bound that its tangent gives (Krähenbühl, Koltun, ICML 2013, section 4). The permutohedral lattice is not
    exactly symmetric, so that it may rise a little near the end.
    """
    q = np.exp(log_q)
    pairwise = pairwise_energy(q, kernels, compatibility)
    return float(np.sum(q * (log_q - log_softmax(logits) + 0.5 * pairwise), dtype=np.float64))


class DenseCRF:
    """Refines scores by the mean field of a CRF that connects every pixel with every other one.

    The energy of a labelling: for each pixel -log p of its label, and for each pair of pixels with different
    labels `w1 exp(-|dp|^2 / 2 theta_alpha^2 - |dI|^2 / 2 theta_beta^2) + w2 exp(-|dp|^2 / 2 theta_gamma^2)`,
    each kernel normalised. The spatial kernel is filtered exactly (cut off at four standard deviations), the
    bilateral one on a permutohedral lattice, which is built once per image.

    As in the releases, a pixel's own probability takes part in its sum.

    Args:
        preset: where the parameters start that are not given. w1, theta_alpha, theta_beta, w2, theta_gamma,
            iterations:

            - `"msrc"`: 10, 61, 11, 1, 1, 10: the paper on MSRC-21. w2 and theta_gamma are published; w1 was
              found by grid search and is not (10 is pydensecrf's).
            - `"deeplab1"`: 7.5, 75, 6.5, 3, 3, 10: DeepLab v1 searched w1 in 5-10, theta_alpha in 50-100,
              theta_beta in 3-10; these are the middles.
            - `"deeplab2"`: 4, 67, 3, 3, 1, 10: kazuto1011/deeplab-pytorch, configs/voc12.yaml.
            - `"deconvnet"`: 5, 20, 3, 3, 3, 10: DeconvNet, generate_EDeconvNet_CRF_results.m.
            - `"crf-rnn"`: 5, 160, 3, 3, 3, 10, normalisation `"after"`: thetas and iterations of
              crfasrnn_keras, start weights 5 and 3 of the Caffe release.
            - `"pydensecrf"`: 10, 80, 13, 3, 3, 5: the example in pydensecrf's README.
        w1: weight of the bilateral kernel.
        theta_alpha: bilateral kernel, pixels.
        theta_beta: bilateral kernel, colour difference in 0-255 units.
        w2: weight of the spatial kernel.
        theta_gamma: spatial kernel, pixels.
        iterations: mean field iterations.
        damping: share of the old distributions that each iteration keeps, in [0, 1).
        normalization: `"symmetric"` (pydensecrf's default) or `"after"` (CRF as recurrent network).
        compatibility: `(C, C)` energy of two labels on a pair of pixels, instead of Potts.

    Raises:
        UsageError: if an argument is out of range.
        MissingExtraError: without SciPy, when w1 is not 0.

    Example:
        >>> scores = DenseCRF(preset="deeplab2", iterations=5)(image, logits)
    """

    def __init__(
        self,
        preset: str = "deeplab2",
        w1: float | None = None,
        theta_alpha: float | None = None,
        theta_beta: float | None = None,
        w2: float | None = None,
        theta_gamma: float | None = None,
        iterations: int | None = None,
        damping: float = 0.0,
        normalization: str | None = None,
        compatibility: ArrayLike | None = None,
    ) -> None:
        self.preset = check_choice("preset", preset, tuple(PRESETS))
        given: dict[str, Any] = {
            "w1": w1,
            "theta_alpha": theta_alpha,
            "theta_beta": theta_beta,
            "w2": w2,
            "theta_gamma": theta_gamma,
            "iterations": iterations,
            "normalization": normalization,
        }
        self.parameters = _checked(
            replace(PRESETS[preset], **{name: value for name, value in given.items() if value is not None})
        )
        self.damping = checked("damping", damping, 0, 0.999)
        self.compatibility = None if compatibility is None else _matrix(compatibility)

    def __call__(self, image: Image, logits: Floats) -> Floats:
        """Return float32 `(H, W, C)`: the logarithm of the mean field's distributions.

        Args:
            image: uint8 `(H, W, 3)` RGB.
            logits: float32 `(H, W, C)`.

        Raises:
            UsageError: if image and logits differ in size, or the compatibility has other classes.
            DataError: if a logit is not finite.
        """
        self._check(image, logits)
        return deque(self._steps(logits, self.kernels(image)), maxlen=1).pop()

    def energies(self, image: Image, logits: Floats) -> list[float]:
        """Return the free energy (see `free_energy`) before the first and after every iteration."""
        self._check(image, logits)
        kernels = self.kernels(image)
        steps = self._steps(logits, kernels)
        return [free_energy(log_q, logits, kernels, self.compatibility) for log_q in steps]

    def _steps(self, logits: Floats, kernels: Sequence[Kernel]) -> Iterator[Floats]:
        return mean_field(
            logits,
            kernels,
            iterations=self.parameters.iterations,
            damping=self.damping,
            compatibility=self.compatibility,
        )

    def kernels(self, image: Image) -> list[Kernel]:
        """Return the kernels of an image, uint8 `(H, W, 3)`; those of weight 0 are left out."""
        values, shape = self.parameters, image.shape[:2]
        kernels = []
        if values.w1:
            filter = bilateral_filter(image, values.theta_alpha, values.theta_beta)
            kernels.append(Kernel(values.w1, normalized(filter, shape, values.normalization)))
        if values.w2:
            filter = spatial_filter(values.theta_gamma)
            kernels.append(Kernel(values.w2, normalized(filter, shape, values.normalization)))
        return kernels

    def _check(self, image: Image, logits: Floats) -> None:
        check_sizes(image, logits)
        if not np.isfinite(logits).all():
            raise DataError("DenseCRF needs finite logits. Received: logits that hold NaN or infinity")
        classes = logits.shape[-1]
        if self.compatibility is not None and self.compatibility.shape[0] != classes:
            raise UsageError(
                f"Argument `compatibility` must be {classes} x {classes}, one row per class. "
                f"Received: shape {self.compatibility.shape}"
            )


def _checked(values: Preset) -> Preset:
    """Return the parameters as numbers in their ranges."""
    numbers = {
        name: checked(name, value, 1e-3 if name.startswith("theta") else 0, 1e6)
        for name, value in asdict(values).items()
        if name not in ("iterations", "normalization")
    }
    return Preset(
        **numbers,
        iterations=checked("iterations", values.iterations, 0, 10_000, whole=True),
        normalization=check_choice("normalization", values.normalization, NORMALIZATIONS),
    )


def _matrix(values: ArrayLike) -> NDArray[np.float32]:
    matrix = np.asarray(values, np.float32)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.isfinite(matrix).all():
        raise UsageError(
            "Argument `compatibility` must be a square matrix of finite numbers. "
            f"Received: shape {matrix.shape}"
        )
    return matrix
