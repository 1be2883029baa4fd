"""Shift-and-stitch: a denser score map from a network as it is, by running it on shifted images.

FCN's paper (section 3.2) shifts the image by every pixel of the output stride and interlaces the answers.
With fewer shifts the score map becomes finer by that factor, and bilinear enlargement does the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kseg.checks import Range
from kseg.errors import UsageError
from kseg.inference.keras_runtime import KerasRuntime

if TYPE_CHECKING:
    import keras

    from kseg.inference.runtime import Runtime
    from kseg.spec import Spec

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Coarse:
    """The scores that a network enlarges in its last step.

    Args:
        model: from the network's input to the scores `(B, h, w, classes)`.
        strides: pixels of the image per cell, vertically and horizontally.
        centres: row and column, in pixels of the image, of the middle of cell (0, 0).
    """

    model: keras.Model
    strides: tuple[int, int]
    centres: tuple[float, float]


def coarse_scores(model: keras.Model) -> Coarse:
    """Find the score map before the last enlargement of a network of `kseg.models`.

    Raises:
        UsageError: if the network does not end in a fixed bilinear enlargement and a crop.
    """
    import keras

    from kseg.layers import BilinearUpsampling, CropLike, PickOutput, TransposedConv

    last = _maker(model.outputs[0])
    if isinstance(last, PickOutput):
        last = _maker(last.input[last.index])
    enlarge = _maker(last.input[0]) if isinstance(last, CropLike) else last
    cropped = last.offset if isinstance(last, CropLike) else (0, 0)
    if isinstance(enlarge, BilinearUpsampling):
        strides = enlarge.factor
        middles = [(stride - 1) / 2 for stride in strides]
    elif isinstance(enlarge, TransposedConv) and not enlarge.learnable and _interpolates(enlarge):
        strides = enlarge.strides
        middles = [(rule.kernel - 1) / 2 - rule.start for rule in enlarge.rules]
    else:
        reason = "learned its last enlargement" if isinstance(enlarge, TransposedConv) else "has none"
        raise UsageError(
            "Shift-and-stitch replaces the last step of a network, a fixed bilinear enlargement of coarse "
            f"scores, and '{model.name}' {reason}. Take one whose scores are enlarged so, such as FCN8s"
        )
    centres = (middles[0] - cropped[0], middles[1] - cropped[1])
    return Coarse(keras.Model(model.input, enlarge.input), strides, centres)


def _maker(tensor: Any) -> Any:
    """The layer that a symbolic tensor comes from."""
    return tensor._keras_history.operation


def _interpolates(layer: Any) -> bool:
    """Whether a fixed kernel is the bilinear one of its stride, 2 f or 2 f - 1."""
    return all((rule.kernel + 1) // 2 == rule.stride for rule in layer.rules)


class ShiftAndStitchRuntime:
    """A runtime that runs a Keras network on `shifts * shifts` shifted images and interlaces their scores.

    The network's output stride is divided by `shifts`, without training: what is left of it is enlarged
    bilinearly. The cost is that of `shifts * shifts` runs.

    Args:
        source: a runtime of a `.keras` file, or a Keras network with a `.spec`; of open height and width.
        shifts: per axis; must divide the stride of the last enlargement. 1 is the network itself.

    Raises:
        UsageError: if `source` is an artefact without layers, has a fixed size, does not end in a fixed
            bilinear enlargement, mirrors its border, or `shifts` does not divide its stride.

    Example:
        >>> predictor = kseg.Predictor(ShiftAndStitchRuntime(kseg.load("model.keras"), 4))

    Reference:
        Long, Shelhamer, Darrell, CVPR 2015, section 3.2.
    """

    def __init__(self, source: Runtime | keras.Model, shifts: int) -> None:
        if not isinstance(source, KerasRuntime):
            if not hasattr(source, "layers"):
                name = getattr(source, "name", type(source).__name__)
                raise UsageError(
                    "Shift-and-stitch needs the layers of the network, which only a .keras file has. "
                    f"Received: runtime '{name}'"
                )
            source = KerasRuntime(source)
        from kseg.layers import MirrorBorder

        self._inner = source
        model = self._inner.model
        if self._inner.input_size is not None or None not in model.inputs[0].shape[1:3]:
            raise UsageError(
                "Shift-and-stitch runs the network on larger images, so its height and width must be open: "
                f"build it with input_shape=(None, None, 3). Received: {tuple(model.inputs[0].shape)}"
            )
        if any(isinstance(layer, MirrorBorder) for layer in model.layers):
            raise UsageError(
                f"Shift-and-stitch moves the image behind zeros, and '{model.name}' mirrors its border, so "
                "its answers would change. A network whose argument `output_stride` is above 1 gives finer "
                "ones itself: kseg rebuild MODEL --model-args '{\"output_stride\": 1}' --out FILE"
            )
        coarse = coarse_scores(model)
        if shifts not in Range(1, whole=True) or any(stride % shifts for stride in coarse.strides):
            known = [k for k in range(1, 1 + min(coarse.strides)) if not any(s % k for s in coarse.strides)]
            raise UsageError(
                f"Shift-and-stitch: the number of shifts must divide the stride {coarse.strides[0]} of "
                f"'{model.name}': {', '.join(map(str, known))}. Received: {shifts!r}"
            )
        self.shifts = shifts
        self.strides = coarse.strides
        self._centres = coarse.centres
        self._scores = KerasRuntime(coarse.model, self._inner.spec)

    @property
    def spec(self) -> Spec:
        """The Spec of the network."""
        return self._inner.spec

    @property
    def input_size(self) -> tuple[int, int] | None:
        """None: any size."""
        return self._inner.input_size

    @property
    def name(self) -> str:
        """`"keras"` and the number of shifts, for tables."""
        return f"{self._inner.name}, stitched {self.shifts}x{self.shifts}"

    def __call__(self, images: Floats) -> Floats:
        """Return logits `(B, H, W, classes)` float32 for normalised images `(B, H, W, 3)` float32."""
        if self.shifts == 1:
            return self._inner(images)
        values = self.scores(images)
        for axis, count in ((1, images.shape[1]), (2, images.shape[2])):
            values = self._resampled(values, axis, count)
        return values

    def scores(self, images: Floats) -> Floats:
        """Return the interlaced scores `(B, shifts * h, shifts * w, classes)`.

        Run (i, j) sees the image moved down by i steps and to the right by j, behind zeros; its cells lie
        as many steps further up and left in the image. So the map begins `shifts - 1` steps before the
        middle of the network's own first cell.
        """
        steps = [stride // self.shifts for stride in self.strides]
        reach = [(self.shifts - 1) * step for step in steps]
        batch, height, width, channels = images.shape
        result: Floats | None = None
        for i in range(self.shifts):
            for j in range(self.shifts):
                moved = np.zeros((batch, height + reach[0], width + reach[1], channels), np.float32)
                top, left = i * steps[0], j * steps[1]
                moved[:, top : top + height, left : left + width] = images
                cells = self._scores(moved)
                if result is None:
                    rows, columns = cells.shape[1] * self.shifts, cells.shape[2] * self.shifts
                    result = np.empty((batch, rows, columns, cells.shape[3]), np.float32)
                result[:, self.shifts - 1 - i :: self.shifts, self.shifts - 1 - j :: self.shifts] = cells
        assert result is not None  # shifts >= 1
        return result

    def _resampled(self, values: Floats, axis: int, count: int) -> Floats:
        """Interpolate the interlaced scores at the `count` pixels of one axis."""
        step = self.strides[axis - 1] // self.shifts
        places = (np.arange(count) - self._centres[axis - 1]) / step + self.shifts - 1
        places = np.clip(places, 0, values.shape[axis] - 1)
        below = np.floor(places).astype(int)
        share = (places - below).astype(np.float32).reshape((-1, 1, 1) if axis == 1 else (-1, 1))
        above = np.minimum(below + 1, values.shape[axis] - 1)
        return values.take(below, axis) * (1 - share) + values.take(above, axis) * share

    def close(self) -> None:
        """Drop both networks."""
        self._scores.close()
        self._inner.close()
