"""Texture-layout features: the share of a texton in a rectangle beside a pixel, from integral images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from kseg.checks import POSITIVE, whole
from kseg.errors import UsageError
from kseg.layers.sizes import middle

# A share of 1 as an integer. Exact in half precision, and a rectangle of 2 ** 17 pixels still fits an int32.
ONE = 2**14


# Of features, rectangles, pixels: far more than any image has use for.
_MOST = 1_000_000


def draw_rectangles(count: int, smallest: int, largest: int, step: int, seed: int) -> np.ndarray:
    """Draw rectangles within `largest / 2` pixels of the origin, in units of `step` pixels.

    Heights and widths are uniform between `smallest` and `largest`, places uniform where they fit.

    Returns:
        int64 `(count, 4)`: top, left, bottom, right; bottom and right are exclusive.
    """
    random = np.random.default_rng(seed)
    reach = max(1, round(largest / 2 / step))
    low, high = max(1, round(smallest / step)), 2 * reach
    sides = random.integers(min(low, high), high + 1, (count, 2))
    corners = random.integers(-reach, reach - sides + 1)
    return np.concatenate([corners, corners + sides], axis=1)


def _arange(count: Any) -> Any:
    """0 ... count - 1 as int32; a numpy array when `count` is a number."""
    return np.arange(count, dtype="int32") if isinstance(count, int) else ops.arange(count, dtype="int32")


def _clip(values: Any, high: Any) -> Any:
    """Values between 0 and `high`, which may be a tensor."""
    if isinstance(high, int):
        return np.clip(values, 0, high)
    return ops.minimum(ops.maximum(values, 0), high)


@keras.saving.register_keras_serializable(package="kseg")
class TextureLayout(keras.layers.Layer):
    """Shares of textons in random rectangles around each point of a grid.

    A feature is a pair of a rectangle and a texton: the mean of that texton's map over the rectangle, shifted
    to the grid point and clipped to the image (0 where nothing of it is left). Sums over rectangles are
    differences of four values of an integral image.

    The `features / rectangles` textons of a rectangle are consecutive ones, starting at random at one of few
    places: textons have no order, so they are as good as any others, and runs are read without a gather.

    In inference the integral images are int32: exact whatever the size of the image, and whatever half
    precision the graph around is turned to, in which large sums would not even be finite. In training they
    are float32, so that there are gradients; the two differ by less than 1e-4 (and by the rounding of large
    float32 sums).

    Args:
        features: number of features, a multiple of `rectangles`; 5,000.
        rectangles: number of rectangles.
        grid: distance of the grid points in pixels of the input. H and W must be multiples of it
            (`PadToStride`); a point is the middle of its `grid` x `grid` block.
        smallest: shortest side of a rectangle, in units of `unit`; 5 in Krähenbühl's code.
        largest: longest side; 200 in the code. Rectangles lie within half of that around the point: the 100
            pixels of the paper.
        unit: how many of those units one pixel of the input is: the stride of the texton map. Sides and
            places of the rectangles are rounded to it.
        seed: of the rectangles and textons.

    Returns:
        float32 `(B, H / grid, W / grid, features)` in [0, 1] for texton shares `(B, H, W, K)` in [0, 1].

    Raises:
        UsageError: for arguments out of range, or fewer textons than a rectangle takes.

    Reference:
        Shotton, Winn, Rother, Criminisi, "TextonBoost", ECCV 2006, section 3.2.
    """

    def __init__(
        self,
        features: int = 5000,
        rectangles: int = 100,
        grid: int = 5,
        smallest: int = 5,
        largest: int = 200,
        unit: int = 1,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        given = {
            "features": features,
            "rectangles": rectangles,
            "grid": grid,
            "smallest": smallest,
            "largest": largest,
            "unit": unit,
        }
        for name, value in given.items():
            whole(value, "TextureLayout", name, maximum=_MOST)
        whole(seed, "TextureLayout", "seed", minimum=0)
        if smallest > largest:
            raise UsageError(
                f"TextureLayout needs smallest <= largest. Received: smallest={smallest}, largest={largest}"
            )
        if features % rectangles:
            raise UsageError(
                "TextureLayout `features` must be a multiple of `rectangles`, which take equally many "
                f"textons. Received: features={features}, rectangles={rectangles}. "
                f"Near: features={max(1, round(features / rectangles)) * rectangles}"
            )
        self.features, self.grid, self.smallest, self.largest = features, grid, smallest, largest
        self.unit, self.seed = unit, seed
        #: (R, 4) top, left, bottom, right of each rectangle in pixels of the input, relative to the point.
        self.rectangles = draw_rectangles(rectangles, smallest, largest, unit, self.seed)
        self.run = features // rectangles  # textons of a rectangle

    def build(self, input_shape: tuple) -> None:
        for name, size in zip(("height", "width"), input_shape[1:3], strict=True):
            if size is not None and size % self.grid:
                raise UsageError(
                    f"TextureLayout needs a {name} that is a multiple of its grid {self.grid}. Received: "
                    f"input shape {tuple(input_shape)}. Put PadToStride before the network"
                )
        textons = input_shape[-1]
        if self.run > textons:
            raise UsageError(
                f"TextureLayout takes features / rectangles = {self.run} textons for each rectangle. "
                f"Received: {textons} textons. Ask for more rectangles or fewer features"
            )
        runs = -(-textons // self.run)
        starts = np.round(np.linspace(0, textons - self.run, runs)).astype(int)
        # Every run equally often, in random order.
        order = np.random.default_rng([self.seed, 1]).permutation(len(self.rectangles)) % runs
        #: (R,) first texton of each rectangle's run.
        self.starts = starts[order]

    @property
    def wiring(self) -> tuple[tuple[int, ...], ...]:
        """What the weights behind it belong to: rectangle and texton of every feature."""
        return tuple((*self.rectangles[rectangle].tolist(), texton) for rectangle, texton in self.pairs)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(rectangle, texton) of each feature, in the order of the output."""
        return [(r, int(start) + t) for r, start in enumerate(self.starts) for t in range(self.run)]

    @property
    def _reach(self) -> int:
        """Pixels that the rectangles reach beyond a grid point, on either side."""
        return int(np.abs(self.rectangles).max())

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        sizes = [None if size is None else size // self.grid for size in input_shape[1:3]]
        return (input_shape[0], *sizes, self.features)

    def _integral(self, inputs: Any, training: bool) -> Any:
        """Integral image, whose border goes on as far as rectangles reach: sums over what is inside."""
        border = (self._reach + 1, self._reach)
        # Half is added before the cut to integers, which rounds.
        x = inputs if training else ops.cast(inputs * float(ONE) + 0.5, "int32")
        x = ops.pad(x, ((0, 0), border, border, (0, 0)))
        return ops.cumsum(ops.cumsum(x, axis=1), axis=2)

    def _lengths(self, size: Any, low: int, high: int) -> Any:
        """Rows (or columns) of the image from `low` to `high` beside each grid point, at least 1: int32."""
        points = _arange(size // self.grid) * self.grid + middle(self.grid)
        last, first = _clip(points + high, size), _clip(points + low, size)
        # Where nothing is left the sum is 0, and what it is divided by is of no account.
        return np.maximum(last - first, 1) if isinstance(size, int) else ops.maximum(last - first, 1)

    def _corners(self, integral: Any, down: Any, across: Any) -> Callable[[int, int, int], Any]:
        """Return what gives the integral image of a run of textons at (y, x) from each of the grid points.

        Grid points with one offset are rows and columns of one phase of the grid. The phases are taken out
        once; a corner is then a slice without steps, which is a copy of whole rows.
        """
        phases: dict[tuple[int, int, int], Any] = {}
        origin = self._reach + middle(self.grid)  # of the first point, in the integral image

        def corner_at(start: int, y: int, x: int) -> Any:
            (row, row_phase), (column, column_phase) = (divmod(origin + at, self.grid) for at in (y, x))
            key = (start, row_phase, column_phase)
            if key not in phases:
                run = integral[:, :, :, start : start + self.run]
                phases[key] = run[:, row_phase :: self.grid, column_phase :: self.grid, :]
            return phases[key][:, row : row + down, column : column + across, :]

        return corner_at

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        training = bool(training)
        _, height, width, _ = ops.shape(inputs)
        corner_at = self._corners(self._integral(inputs, training), height // self.grid, width // self.grid)
        means = []
        for (top, left, bottom, right), start in zip(
            self.rectangles.tolist(), self.starts.tolist(), strict=True
        ):
            corner = [
                corner_at(start, y, x)
                for y, x in ((bottom, right), (top, right), (bottom, left), (top, left))
            ]
            total = (corner[0] - corner[1]) - (corner[2] - corner[3])
            rows = ops.reshape(self._lengths(height, top, bottom), (1, -1, 1, 1))
            columns = ops.reshape(self._lengths(width, left, right), (1, 1, -1, 1))
            if training:
                means.append(total / ops.cast(rows, "float32") / ops.cast(columns, "float32"))
            else:
                # Divided while they are integers: in half precision a sum above 65,504 is infinite.
                means.append((total // rows) // columns)
        result = ops.concatenate(means, axis=-1)
        return result if training else ops.cast(result, "float32") * (1 / ONE)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "features": self.features,
            "rectangles": len(self.rectangles),
            "grid": self.grid,
            "smallest": self.smallest,
            "largest": self.largest,
            "unit": self.unit,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable(package="kseg")
class SoftStumps(keras.layers.Layer):
    """One decision stump per channel, softened: `sigmoid((x - threshold) / temperature)`.

    A linear layer on top is boosting's sum of stumps, with thresholds found by gradients instead of a
    search. The thresholds start at random, as the candidates of a boosting round do; the input should have
    about zero mean and unit variance.

    Args:
        temperature: width of the step; towards 0 it is a hard stump.
        seed: of the thresholds.

    Returns:
        Values in (0, 1), of the shape of the input.

    Reference:
        Torralba, Murphy, Freeman, "Sharing visual features for multiclass and multiview object detection",
        PAMI 2007 (joint boosting); Shotton et al., "TextonBoost", section 3.3.
    """

    def __init__(self, temperature: float = 0.3, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step, self.seed = float(POSITIVE.check(temperature, "temperature", "SoftStumps")), int(seed)

    def build(self, input_shape: tuple) -> None:
        self.threshold = self.add_weight(
            name="threshold",
            shape=(input_shape[-1],),
            initializer=keras.initializers.RandomUniform(-1.0, 2.0, seed=self.seed),
        )

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return tuple(input_shape)

    def call(self, inputs: Any) -> Any:
        return ops.sigmoid((inputs - ops.cast(self.threshold, inputs.dtype)) * (1 / self.step))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.step, "seed": self.seed}
