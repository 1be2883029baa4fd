"""Mean field of a conditional random field as a trainable layer, over a local window of pixels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from kseg.checks import ANY, POSITIVE, whole
from kseg.errors import UsageError
from kseg.layers.padding import missing
from kseg.layers.resampling import resize

NCHW = (0, 3, 1, 2)
NHWC = (0, 2, 3, 1)
ARGUMENTS = (
    "iterations",
    "test_iterations",
    "window",
    "dilation",
    "stride",
    "theta_alpha",
    "theta_beta",
    "theta_gamma",
    "w1",
    "w2",
    "std",
)


@keras.saving.register_keras_serializable(package="kseg")
class MeanFieldCRF(keras.layers.Layer):
    """Refines logits by mean field steps whose label mixing is learned (CRF as recurrent network).

    Each step passes, between all pairs of pixels that a window reaches, the class probabilities weighted by
    two Gaussian kernels: a bilateral one, `exp(-|dp|^2 / 2 theta_alpha^2 - |dI|^2 / 2 theta_beta^2)`, and a
    spatial one, `exp(-|dp|^2 / 2 theta_gamma^2)`, each divided by its filtered ones. Then

        Q = softmax(q),   q <- logits - (bilateral(Q) M1 + spatial(Q) M2) M

    M1 and M2 start at `w1` and `w2` times the identity, the compatibility M at minus the identity (Potts):
    3 C^2 trained weights, and with `w1 = w2 = 0` the layer returns its logits. Nothing of the paper changes
    except the reach: the paper filters the whole image on a permutohedral lattice, which no runtime of
    devices has; here the kernels are exact, and cut off at the window.

    The kernels are constants of the image: no gradient goes through them. A symmetric filter is its own
    gradient, so training keeps one kernel map per offset and no shifted copies of the probabilities.

    Args:
        iterations: steps in training; the paper has 5.
        test_iterations: steps otherwise; the paper has 10. Both may be set on a trained layer.
        window: side of the window in samples, odd.
        dilation: distance of neighbouring samples of the window: `window=11, dilation=3` reaches 15 pixels.
        stride: the CRF runs on averages of `stride` x `stride` pixels, and what it adds to the logits is
            enlarged bilinearly; 2 costs a quarter. Reach and thetas: the window then counts coarse pixels,
            the thetas stay in pixels of the image.
        theta_alpha: bilateral kernel, pixels. 160 in the authors' release.
        theta_beta: bilateral kernel, colour difference in 0-255 units. 3 in the authors' release.
        theta_gamma: spatial kernel, pixels. 3 in the authors' release.
        w1: start value of the bilateral mixing. 1 in the Keras release, 5 in the Caffe release.
        w2: start value of the spatial mixing. 1 in the Keras release, 3 in the Caffe release.
        std: what the image was divided by, in 0-255 units: a number, or one per channel of the image.

    Call arguments:
        inputs: `[logits, image]`: float32 `(B, H, W, C)` and the normalised image `(B, H, W, channels)`.
        training: chooses the number of steps.

    Returns:
        `(B, H, W, C)`, without softmax.

    Raises:
        UsageError: for a value out of range, or inputs whose sizes differ.

    References:
        Zheng et al., Conditional Random Fields as Recurrent Neural Networks, ICCV 2015; window:
        Teichmann, Cipolla, Convolutional CRFs for Semantic Segmentation, BMVC 2019.
    """

    def __init__(
        self,
        iterations: int = 5,
        test_iterations: int = 10,
        window: int = 11,
        dilation: int = 1,
        stride: int = 1,
        theta_alpha: float = 160.0,
        theta_beta: float = 3.0,
        theta_gamma: float = 3.0,
        w1: float = 1.0,
        w2: float = 1.0,
        std: float | tuple[float, ...] = 127.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.iterations = whole(iterations, "MeanFieldCRF", "iterations")
        self.test_iterations = whole(test_iterations, "MeanFieldCRF", "test_iterations")
        self.window = whole(window, "MeanFieldCRF", "window", minimum=3)
        if self.window % 2 == 0:
            raise UsageError(f"MeanFieldCRF `window` must be odd. Received: window={window!r}")
        self.dilation = whole(dilation, "MeanFieldCRF", "dilation")
        self.stride = whole(stride, "MeanFieldCRF", "stride")
        self.theta_alpha = float(POSITIVE.check(theta_alpha, "theta_alpha", "MeanFieldCRF"))
        self.theta_beta = float(POSITIVE.check(theta_beta, "theta_beta", "MeanFieldCRF"))
        self.theta_gamma = float(POSITIVE.check(theta_gamma, "theta_gamma", "MeanFieldCRF"))
        self.w1 = float(ANY.check(w1, "w1", "MeanFieldCRF"))
        self.w2 = float(ANY.check(w2, "w2", "MeanFieldCRF"))
        self.std: float | tuple[float, ...]
        if isinstance(std, (tuple, list)):
            self.std = tuple(float(POSITIVE.check(value, "std", "MeanFieldCRF")) for value in std)
        else:
            self.std = float(POSITIVE.check(std, "std", "MeanFieldCRF"))

    def build(self, input_shape: list[tuple]) -> None:
        """Make the three C x C matrices."""
        logits, image = input_shape
        if any(
            a is not None and b is not None and a != b for a, b in zip(logits[1:3], image[1:3], strict=True)
        ):
            raise UsageError(
                "MeanFieldCRF needs logits and image of one height and width. "
                f"Received: logits {tuple(logits)}, image {tuple(image)}"
            )
        if isinstance(self.std, tuple) and len(self.std) not in (1, image[-1]):
            raise UsageError(
                f"MeanFieldCRF `std` must be one number or one per channel of the image ({image[-1]}). "
                f"Received: std={self.std!r}"
            )
        for name, value in (
            ("bilateral_weights", self.w1),
            ("spatial_weights", self.w2),
            ("compatibility", -1.0),
        ):
            matrix = self.add_weight(
                name=name, shape=(logits[-1], logits[-1]), initializer=keras.initializers.Identity(value)
            )
            setattr(self, name, matrix)
        self.built = True

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple:
        return tuple(input_shape[0])

    def call(self, inputs: list[Any], training: bool | None = None) -> Any:
        logits, image = inputs
        steps = self.iterations if training else self.test_iterations
        if self.stride == 1:
            return logits - self._pairwise(logits, image, steps, bool(training))
        _, height, width, _ = ops.shape(logits)
        coarse, small = (self._averages(x) for x in inputs)
        pairwise = self._pairwise(coarse, small, steps, bool(training))
        _, rows, columns, _ = ops.shape(pairwise)
        pairwise = resize(pairwise, rows * self.stride, columns * self.stride)
        return logits - pairwise[:, :height, :width, :]

    def _averages(self, x: Any) -> Any:
        """Average cells of `stride` x `stride` pixels; the last ones the pixels that they have."""

        def mean(x: Any, padding: str) -> Any:
            return ops.average_pool(x, self.stride, self.stride, padding, data_format="channels_last")

        if self.stride == 2:
            return mean(x, "same")
        # "same" would put some of more than one missing row before the first: cells would be moved.
        _, height, width, _ = ops.shape(x)
        border = ((0, 0), (0, missing(height, self.stride)), (0, missing(width, self.stride)), (0, 0))
        held = mean(ops.pad(ops.ones_like(x[..., :1]), border), "valid")
        return mean(ops.pad(x, border), "valid") / held

    def _pairwise(self, logits: Any, image: Any, steps: int, training: bool) -> Any:
        """Return the pairwise energy `(B, H, W, C)` after `steps` mean field steps."""
        ones = ops.transpose(ops.ones_like(image[..., :1]), NCHW)
        weights = self._bilateral_weights(image)
        bilateral_scale = 1.0 / _sum([ones, *(kernel for _, _, kernel in weights)])
        spatial_scale = 1.0 / self._spatial(ones)
        pairwise = None
        for _ in range(steps):
            q = ops.softmax(logits if pairwise is None else logits - pairwise, axis=-1)
            # Channels first: one weight per pixel then multiplies whole planes.
            q = ops.transpose(q, NCHW)
            filtered = self._bilateral_in_training(q, weights) if training else self._bilateral(q, weights)
            bilateral = ops.transpose(filtered * bilateral_scale, NHWC)
            spatial = ops.transpose(self._spatial(q) * spatial_scale, NHWC)
            message = ops.matmul(bilateral, self.bilateral_weights) + ops.matmul(
                spatial, self.spatial_weights
            )
            pairwise = ops.matmul(message, self.compatibility)
        return pairwise

    @property
    def _offsets(self) -> list[tuple[int, int]]:
        """Half of the window's offsets: the other half is their negatives, with the same kernel values."""
        reach = self.window // 2
        return [
            (dy * self.dilation, dx * self.dilation)
            for dy in range(reach + 1)
            for dx in range(-reach, reach + 1)
            if (dy, dx) > (0, 0)
        ]

    def _pad(self, x: Any, value: float = 0.0) -> Any:
        border = self.window // 2 * self.dilation
        return ops.pad(x, ((0, 0), (0, 0), (border, border), (border, border)), constant_values=value)

    def _shifted(self, padded: Any, dy: int, dx: int) -> Any:
        """Return x[p + (dy, dx)] at every p, zero outside, from `_pad(x)`."""
        border = self.window // 2 * self.dilation
        rows, columns = (slice(border + step, (step - border) or None) for step in (dy, dx))
        return padded[:, :, rows, columns]

    def _bilateral_weights(self, image: Any) -> list[tuple[int, int, Any]]:
        """Return (dy, dx, kernel between p and p + (dy, dx)) for the whole window but its centre."""
        scale = np.asarray(self.std, "float32") / self.theta_beta
        color = ops.transpose(ops.stop_gradient(image) * ops.cast(scale, image.dtype), NCHW)
        # Further from any colour than the kernel reaches: it is 0 where p + (dy, dx) is outside.
        padded = self._pad(color, 2 * 255 / self.theta_beta + 100)
        weights = []
        for dy, dx in self._offsets:
            distance = (dy**2 + dx**2) * (self.stride / self.theta_alpha) ** 2
            change = ops.square(self._shifted(padded, dy, dx) - color)
            kernel = ops.exp(-0.5 * (ops.sum(change, axis=1, keepdims=True) + distance))
            weights.append((dy, dx, kernel))
            weights.append((-dy, -dx, self._shifted(self._pad(kernel), -dy, -dx)))
        return weights

    def _bilateral(self, x: Any, weights: list[tuple[int, int, Any]]) -> Any:
        """Filter `(B, C, H, W)`; the pixel itself counts once, as in the release."""
        padded = self._pad(x)
        return _sum([x, *(kernel * self._shifted(padded, dy, dx) for dy, dx, kernel in weights)])

    def _bilateral_in_training(self, x: Any, weights: list[tuple[int, int, Any]]) -> Any:
        """`_bilateral` with its gradient written down: the kernel between p and p' is that between p' and p.

        What Keras would derive adds 120 padded maps for a window of 11, several times the work.
        """

        @ops.custom_gradient
        def filtered(x: Any) -> Any:
            def gradient(*args: Any, upstream: Any = None) -> Any:
                return self._bilateral(args[0] if upstream is None else upstream, weights)

            return self._bilateral(x, weights), gradient

        return filtered(x)

    def _spatial(self, x: Any) -> Any:
        """Filter `(B, C, H, W)` by rows, then by columns: a Gaussian on a square window is separable."""
        reach = self.window // 2 * self.dilation
        steps = np.arange(-reach, reach + 1)
        taps = np.exp(-0.5 * (steps * self.stride / self.theta_gamma) ** 2)
        # Zeros between the taps: a dilated convolution does not reach TensorRT when H and W are open.
        taps = np.where(steps % self.dilation == 0, taps, 0).astype("float32")
        _, channels, height, width = ops.shape(x)
        # One plane per batch entry, so that one small kernel serves all classes.
        x = ops.reshape(x, (-1, height, width, 1))
        for shape in ((-1, 1, 1, 1), (1, -1, 1, 1)):
            kernel = ops.cast(taps.reshape(shape), x.dtype)
            x = ops.conv(x, kernel, padding="same", data_format="channels_last")
        return ops.reshape(x, (-1, channels, height, width))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **{name: getattr(self, name) for name in ARGUMENTS}}


def _sum(terms: Iterable[Any]) -> Any:
    """Add in pairs, pairs of pairs, ...: a runtime that orders by depth then holds few terms at once."""
    waiting: list[Any] = list(terms)
    while len(waiting) > 1:
        pairs = [a + b for a, b in zip(waiting[::2], waiting[1::2], strict=False)]
        waiting = pairs + waiting[len(pairs) * 2 :]
    return waiting[0]
