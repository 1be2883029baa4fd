"""Texton maps: whitening, a dictionary, and an assignment that goes from soft to hard."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from kseg.checks import flag, whole
from kseg.errors import UsageError

SAMPLES = 30_000  # inputs that the whitening and k-means see
ITERATIONS = 25
# Eigenvalues below this share of the largest one are not amplified further.
FLOOR = 1e-7


def whitening(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (D,) and the matrix (D, D) by which `(values - mean) @ matrix` has unit covariance.

    Args:
        values: `(N, D)`, N > 1.
    """
    mean = values.mean(axis=0, dtype=np.float64)
    covariance = np.cov(values - mean, rowvar=False, dtype=np.float64)
    directions, sizes, _ = np.linalg.svd(np.atleast_2d(covariance))
    return mean, directions / np.sqrt(np.maximum(sizes, max(FLOOR * sizes[0], 1e-12)))


def kmeans(points: np.ndarray, clusters: int, seed: int = 0) -> np.ndarray:
    """Return the centres (clusters, D) that k-means, started by k-means++, finds among float32 points (N, D).

    Sets the seed of OpenCV's global random numbers.
    """
    import cv2

    cv2.setRNGSeed(seed)
    stop = (cv2.TERM_CRITERIA_MAX_ITER | cv2.TERM_CRITERIA_EPS, ITERATIONS, 1e-4)
    labels: Any = None  # OpenCV's own type hints leave out that there may be none before
    _, _, centres = cv2.kmeans(points, clusters, labels, stop, 1, cv2.KMEANS_PP_CENTERS)
    return np.asarray(centres)


@keras.saving.register_keras_serializable(package="kseg")
class Textons(keras.layers.Layer):
    """Share of each texton in each pixel: `softmax(-|z - c|^2 / temperature)` over the dictionary.

    z is the whitened input, `(x - mean) @ whitening`, and never trained; c are the textons. Without
    `adapt` the whitening is `1 / scale` and the textons are drawn at random; `adapt` fits the whitening, then
    finds the textons by k-means. `anneal` takes the temperature from soft to nearly hard: as it goes to 0
    the share goes to 1 where k-means puts its label.

    |z|^2 is the same for all textons and left out, so the distances are two 1x1 convolutions. They are taken
    relative to the nearest one before the division by the temperature, which half precision survives.

    Args:
        textons: size of the dictionary, at least 2; 400 in TextonBoost.
        offset: mean of each channel of the input, until `adapt`; a number or one for each channel.
        scale: standard deviation of each channel, until `adapt`.
        soft: temperature at the start, in squared whitened units.
        hard: temperature at the end.
        learnable: whether the textons are trained on after k-means.
        seed: of the random textons and of k-means.

    Returns:
        float32 `(B, H, W, textons)` in [0, 1], summing to 1 over the textons.

    Raises:
        UsageError: for an argument out of range.

    Reference:
        Shotton, Winn, Rother, Criminisi, "TextonBoost", ECCV 2006, section 3.1 (hard assignment).
    """

    adapts = True

    def __init__(
        self,
        textons: int = 400,
        offset: float | tuple[float, ...] = 0.0,
        scale: float | tuple[float, ...] = 1.0,
        soft: float = 1.0,
        hard: float = 0.05,
        learnable: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        if not 0 < hard <= soft:
            raise UsageError(
                f"Textons temperatures must be 0 < hard <= soft. Received: soft={soft!r}, hard={hard!r}"
            )
        self.textons = whole(textons, "Textons", "textons", minimum=2)
        self.offset, self.scale = offset, scale
        self.soft, self.hard = float(soft), float(hard)
        self.learnable = flag(learnable, "Textons", "learnable")
        self.seed = whole(seed, "Textons", "seed", minimum=0)

    def build(self, input_shape: tuple) -> None:
        channels = int(input_shape[-1])
        self.mean = self._fixed("mean", np.broadcast_to(self.offset, channels))
        self.whitening = self._fixed("whitening", np.diag(1 / np.broadcast_to(self.scale, channels)))
        self.centres = self.add_weight(
            name="centres",
            shape=(self.textons, channels),
            # Drawn when the weight is made: how many are asked for may have been refused by then.
            initializer=self._random,
            trainable=self.learnable,
        )
        self.temperature = self._fixed("temperature", np.array(self.soft))

    def _random(self, shape: tuple, dtype: Any = None) -> Any:
        return _array(np.random.default_rng(self.seed).normal(size=shape))(shape, dtype)

    def _fixed(self, name: str, value: np.ndarray) -> Any:
        return self.add_weight(name=name, shape=value.shape, initializer=_array(value), trainable=False)

    def adapt(self, values: np.ndarray) -> None:
        """Fit the whitening and the dictionary to inputs of this layer, `(..., channels)`.

        Raises:
            UsageError: for fewer distinct values than textons.
        """
        channels = self.mean.shape[0]
        if not self.built or np.shape(values)[-1:] != (channels,):
            raise UsageError(
                f"Textons.adapt takes values (..., {channels}). Received: shape {np.shape(values)}"
            )
        rows = np.reshape(values, (-1, channels))
        if len(rows) > SAMPLES:
            random = np.random.default_rng(self.seed)
            rows = rows[random.choice(len(rows), SAMPLES, replace=False, shuffle=False)]
        mean, matrix = whitening(rows)
        points = ((rows - mean) @ matrix).astype("float32")
        if len(np.unique(points, axis=0)) < self.textons:
            raise UsageError(
                f"Textons.adapt needs at least as many distinct values as textons, {self.textons}. "
                f"Received: {len(rows)} values. Show it more images, or ask for fewer textons"
            )
        self.mean.assign(mean)
        self.whitening.assign(matrix)
        self.centres.assign(kmeans(points, self.textons, self.seed))

    def anneal(self, progress: float) -> None:
        """Set the temperature between `soft` (progress 0) and `hard` (progress 1), in equal ratios."""
        self.temperature.assign(self.soft * (self.hard / self.soft) ** min(max(float(progress), 0.0), 1.0))

    @property
    def not_averaged(self) -> list[keras.Variable]:
        """The temperature, which is annealed."""
        return [self.temperature]

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], self.textons)

    def call(self, inputs: Any) -> Any:
        z = _pixelwise(inputs - self.mean, self.whitening)
        nearness = _pixelwise(z, 2.0 * ops.transpose(self.centres)) - ops.sum(self.centres**2, axis=1)
        below = nearness - ops.max(nearness, axis=-1, keepdims=True)
        return ops.softmax(below / self.temperature, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "textons": self.textons,
            "offset": self.offset,
            "scale": self.scale,
            "soft": self.soft,
            "hard": self.hard,
            "learnable": self.learnable,
            "seed": self.seed,
        }


def _array(value: np.ndarray) -> Any:
    """Return an initializer that gives `value`."""
    return lambda shape, dtype=None: ops.cast(np.asarray(value, np.float32), dtype)


def _pixelwise(x: Any, matrix: Any) -> Any:
    """`pixel @ matrix` as a 1x1 convolution."""
    kernel = ops.reshape(matrix, (1, 1, *matrix.shape))
    return ops.conv(x, kernel, strides=1, padding="valid", data_format="channels_last")
