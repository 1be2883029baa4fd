"""Recurrent convolutional networks for scene labeling: one small net that corrects its own labels.

That inputs have zero mean and unit variance is left to the normalisation of the images, as for every network.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kseg.checks import check_choice, flag
from kseg.errors import UsageError
from kseg.layers import RarefiedConv2D, RarefiedMaxPooling2D, Subsample
from kseg.layers.widths import channels
from kseg.models.parts.blocks import check_whole
from kseg.models.parts.chain import Chain
from kseg.models.parts.patchwise import dense_network
from kseg.models.registry import register

PAPER = "Pinheiro, Collobert, Recurrent Convolutional Neural Networks for Scene Labeling, ICML 2014"
INSTANCES = {"rcnn2": 2, "rcnn3": 3}  # how often the published networks apply themselves
FEEDBACKS = ("scores", "softmax")


@keras.saving.register_keras_serializable(package="kseg")
class ZeroPlanes(keras.layers.Layer):
    """Puts planes of zeros before the channels of an image: the labels that the first instance has not yet.

    Args:
        planes: number of planes, one per class.

    Returns:
        `(B, H, W, planes + C)` for an input `(B, H, W, C)`.
    """

    def __init__(self, planes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.planes = planes

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:3], input_shape[3] + self.planes)

    def call(self, inputs: Any) -> Any:
        # Not ops.pad: TensorFlow's graph optimiser fuses it with the convolution behind it, and then forgets
        # the channels.
        # Zero times the image, not zeros: converters would fold those into megabytes of constants.
        zeros = ops.repeat(inputs[..., :1] * 0.0, self.planes, axis=-1)
        return ops.concatenate([zeros, inputs], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "planes": self.planes}


def _maps(network: str, features: Sequence[int], width: float) -> tuple[int, int]:
    """Return the channels of the two hidden convolutions."""
    counts = list(features) if isinstance(features, (list, tuple)) else []
    whole = all(isinstance(count, int) and not isinstance(count, bool) and count > 0 for count in counts)
    if len(counts) != 2 or not whole:
        raise UsageError(
            f"{network}: argument `features` must be two positive integers. Received: features={features!r}"
        )
    return channels(counts[0], width), channels(counts[1], width)


def _conv(filters: int, kernel: int, name: str) -> RarefiedConv2D:
    return RarefiedConv2D(filters, kernel, name=name)


def _score(num_classes: int, kernel: int) -> RarefiedConv2D:
    return RarefiedConv2D(num_classes, kernel, dtype="float32", name="score")


@register(paper=PAPER, output_stride=1, aliases=("pinheiro", "pinheiro-cnn1", "plain-cnn1"))
def PinheiroCNN(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 21,
    weights: str | None = None,
    width: float = 1.0,
    features: Sequence[int] = (25, 50),
    evaluator: str = "dilated",
    output_stride: int = 1,
    name: str | None = None,
) -> keras.Model:
    """The plain network that the recurrent ones are compared with: patches of 133 x 133, stride 16, tanh.

    33,633 parameters for eight classes.

    Args:
        input_shape: `(H, W, channels)`; H and W may be None (any size).
        num_classes: number of logits per pixel.
        weights: None, or a weights file of the whole network.
        width: factor on all channel counts.
        features: channels of the two hidden convolutions; (25, 50) for Stanford Background and (50, 50) for
            SIFT Flow.
        evaluator: `"dilated"` or `"stitch"`, see `kseg.models.N4`.
        output_stride: 1 for full resolution, 2 for half, up to 16; see `kseg.models.N4`.
        name: name of the Keras model.

    Returns:
        Functional model: float32 `(B, H, W, channels)` -> float32 logits `(B, H, W, num_classes)`; borders
        are mirrored. Its patch form gives `(B, 133, 133, channels)` -> `(B, 1, 1, num_classes)`.

    Raises:
        UsageError: for a value out of range.

    Example:
        >>> model = PinheiroCNN(num_classes=8, output_stride=4)
    """
    first, second = _maps("PinheiroCNN", features, width)
    chain = Chain(
        [
            _conv(first, 6, "conv1"),
            RarefiedMaxPooling2D(8, name="pool1"),
            keras.layers.Activation("tanh", name="tanh1"),
            _conv(second, 3, "conv2"),
            RarefiedMaxPooling2D(2, name="pool2"),
            keras.layers.Activation("tanh", name="tanh2"),
            _score(num_classes, 7),
        ]
    )
    return dense_network("PinheiroCNN", chain, input_shape, evaluator, output_stride, name, weights)


@dataclasses.dataclass(frozen=True)
class _Recurrence:
    """One net f, and how often it is applied.

    Args:
        chain: f: label planes and image in, scores out.
        instances: number of applications.
        num_classes: number of label planes.
        feedback: what the next instance gets, scores or their softmax.
    """

    chain: Chain
    instances: int
    num_classes: int
    feedback: str

    @property
    def stride(self) -> int:
        """Stride of the last instance."""
        return self.chain.stride**self.instances

    @property
    def receptive_field(self) -> int:
        """Side of the patch that the last instance sees."""
        return self._field(self.instances)

    def _field(self, instance: int) -> int:
        """Side of the patch that instance 1, 2, ... sees, computed from the layers of f."""
        size = 1
        for earlier in range(instance):
            size += (self.chain.receptive_field - 1) * self.chain.stride**earlier
        return size

    def planes(self, image: Any, output_stride: int) -> list[tuple[Any, int]]:
        """Apply f again and again, each time to its last scores and the image at their places.

        Args:
            image: `(B, H, W, 3)` with the border that the last instance eats.
            output_stride: divisor of `stride`: distance of the last instance's scores.

        Returns:
            Per instance its scores and their distance in pixels; score i stands in the middle of the patch
            that begins at pixel `i * distance`.
        """
        found: list[tuple[Any, int]] = []
        distance = rate = 1
        x = ZeroPlanes(self.num_classes, name="no_labels")(image)
        for instance in range(1, self.instances + 1):
            step = math.gcd(output_stride // distance, self.chain.stride)
            scores = self.chain(x, step, rate)
            distance *= step
            found.append((scores, distance))
            if instance == self.instances:
                break
            middle = (self.chain.receptive_field - 1) // 2 * rate
            image = Subsample(step, middle, name=f"image{instance + 1}")([image, scores])
            labels = scores
            if self.feedback == "softmax":
                labels = keras.layers.Softmax(name=f"labels{instance}")(scores)
            x = keras.layers.Concatenate(name=f"labels_and_image{instance + 1}")([labels, image])
            rate = rate * self.chain.stride // step
        return found

    def answers(self, image: Any, output_stride: int) -> list[Any]:
        """As `planes`, every instance's scores at the places of the last one's."""
        *earlier, (last, distance) = self.planes(image, output_stride)
        aligned = []
        for instance, (scores, own_distance) in enumerate(earlier, 1):
            offset = (self.receptive_field - self._field(instance)) // 2 // own_distance
            align = Subsample(
                distance // own_distance, offset, dtype="float32", name=f"instance{instance}_places"
            )
            aligned.append(align([scores, last]))
        return [*aligned, last]


def _f(variant: str, maps: tuple[int, int], num_classes: int, last_tanh: bool) -> Chain:
    """The shared net of `"rcnn2"` (two poolings) or `"rcnn3"` (one)."""
    layers: list[keras.layers.Layer] = [
        _conv(maps[0], 8, "conv1"),
        RarefiedMaxPooling2D(2, name="pool1"),
        keras.layers.Activation("tanh", name="tanh1"),
        _conv(maps[1], 8, "conv2"),
    ]
    if variant == "rcnn2":
        layers.append(RarefiedMaxPooling2D(2, name="pool2"))
    if variant == "rcnn2" or last_tanh:
        layers.append(keras.layers.Activation("tanh", name="tanh2"))
    return Chain([*layers, _score(num_classes, 1)])


@register(
    paper=PAPER,
    output_stride=1,
    aliases=("rcnn", "recurrent"),
    learned_with=("variant", "feedback", "last_tanh"),
)
def RecurrentCNN(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 21,
    weights: str | None = None,
    width: float = 1.0,
    variant: str = "rcnn2",
    instances: int | None = None,
    features: Sequence[int] = (25, 50),
    feedback: str = "scores",
    last_tanh: bool = True,
    evaluator: str = "dilated",
    output_stride: int = 1,
    name: str | None = None,
) -> keras.Model:
    """rCNN: one net applied several times, each time to the image and its last label planes.

    The first instance gets planes of zeros; each further one sees the image at the places, and at the
    distance, of the last one's answers. 98,083 parameters for eight classes, whatever `instances` is, so a
    trained net can be rebuilt with more or fewer. Patches: 25, 121, 505 pixels for 1, 2, 3 instances of
    `"rcnn2"`, whose net has two poolings; 23, 67, 155 for `"rcnn3"`, which has one.

    Args:
        input_shape: `(H, W, channels)`; H and W may be None (any size).
        num_classes: number of logits per pixel.
        weights: None, or a weights file of the whole network.
        width: factor on the channel counts.
        variant: `"rcnn2"` or `"rcnn3"`.
        instances: how often the net is applied, from 1 on; None: 2 for `"rcnn2"`, 3 for `"rcnn3"`.
        features: channels of the two hidden convolutions; (25, 50).
        feedback: what an instance passes to the next: `"scores"`, or `"softmax"` of them.
        last_tanh: whether `"rcnn3"` has a tanh after its second convolution; `"rcnn2"` always has it.
        evaluator: how full resolution is reached: `"dilated"`, strides turned into dilation that grows from
            instance to instance; or `"stitch"`, the paper's merging of the answers to shifted images. The
            same numbers to rounding.
        output_stride: 1 for full resolution, 2 for half (half of the shifts per axis), up to
            the product of all strides; enlarged bilinearly.
        name: name of the Keras model.

    Returns:
        Functional model: float32 `(B, H, W, channels)` -> float32 logits `(B, H, W, num_classes)` of the last
        instance; borders are mirrored. The logits of earlier instances are its heads `"instance1"`, ...; the
        paper's loss is the sum over all. Its patch form answers for the centre pixel, per instance.

    Raises:
        UsageError: for a value out of range.

    Example:
        >>> model = RecurrentCNN(num_classes=8, variant="rcnn3", instances=2, output_stride=2)
    """
    check_choice("variant", variant, tuple(INSTANCES), "RecurrentCNN")
    check_choice("feedback", feedback, FEEDBACKS, "RecurrentCNN")
    count = INSTANCES[variant] if instances is None else check_whole("RecurrentCNN", "instances", instances)
    flag(last_tanh, "RecurrentCNN: argument", "last_tanh")
    chain = _f(variant, _maps("RecurrentCNN", features, width), num_classes, last_tanh)
    net = _Recurrence(chain, count, num_classes, feedback)
    return dense_network("RecurrentCNN", net, input_shape, evaluator, output_stride, name, weights)
