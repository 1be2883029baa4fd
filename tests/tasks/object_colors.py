"""A task from outside the package whose network has its losses inside its graph, and options of its own.

Toy: four colours per image, in no order; the truth is the mean colour of each object, of which images have
any number. Each true colour is matched with the nearest answer.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import keras
import mean_color
import numpy as np
from keras import ops

from kseg import parsers, tasks
from kseg.errors import UsageError
from kseg.models import forms
from kseg.models.registry import register

NAME = "object-colors"
ANSWERS, MOST = 4, 40


class Matched(keras.layers.Layer):
    """Squared distance of each true colour `(B, M, 3)` to the nearest answer `(B, N, 3)`: mean per image."""

    def call(self, answers: Any, truth: Any, real: Any) -> Any:
        distances = ops.sum((ops.cast(answers, "float32")[:, None] - truth[:, :, None]) ** 2, -1)
        return ops.sum(ops.min(distances, -1) * real, -1) / ops.maximum(ops.sum(real, -1), 1)


class Spread(keras.layers.Layer):
    """A second loss: answers `(B, N, 3)` shall not be far from grey."""

    def call(self, answers: Any) -> Any:
        return ops.mean((ops.cast(answers, "float32") - 0.5) ** 2, (1, 2))


@register(paper="none: a toy", output_stride=1, task=NAME)
def ObjectColorNet(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 2,
    name: str | None = None,
) -> keras.Model:
    """Toy: four colours."""
    image = keras.Input(input_shape, name="image")
    x = keras.layers.Conv2D(8, 3, 2, activation="relu")(image)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    colors = keras.layers.Reshape((ANSWERS, 3), name="colors")(keras.layers.Dense(3 * ANSWERS)(x))
    model = keras.Model(image, {"colors": colors}, name=name or "object_color_net")

    def losses() -> forms.LossForm:
        truth, real = keras.Input((MOST, 3), name="true_colors"), keras.Input((MOST,), name="real")
        found = {
            "matched": Matched(dtype="float32")(colors, truth, real),
            "grey": Spread(dtype="float32")(colors),
        }
        inputs = {"image": image, "true_colors": truth, "real": real}
        return forms.LossForm(keras.Model(inputs, found), weights={"grey": 0.01})

    return forms.attach(model, losses=losses)


def encode(sample: Any) -> dict[str, np.ndarray]:
    """The mean colours of the first objects, and which rows are real."""
    colors, real = np.zeros((MOST, 3), np.float32), np.zeros(MOST, np.float32)
    for row, instance in enumerate(sample.instances.ids()[:MOST]):
        colors[row] = sample.image[sample.instances.mask(instance)].mean(0) / 255
        real[row] = 1
    return {"true_colors": colors, "real": real}


class Goal(mean_color.Goal):
    """Its losses are inside the network: neither loss nor metrics are asked for."""

    encode = staticmethod(encode)

    def loss(self, settled: Any, head: Any = None) -> Any:
        raise AssertionError("the losses are inside")

    def metrics(self, settled: Any) -> Any:
        raise AssertionError("the scorer scores")


class Scorer(mean_color.Scorer):
    """One minus the distance to the nearest answer, per channel."""

    def add(self, sample: Any, prediction: np.ndarray) -> None:
        truth = encode(sample)
        for color in truth["true_colors"][truth["real"] > 0]:
            far = np.abs(prediction - color)
            self.errors.append(far[far.sum(1).argmin()])


class Predictor(mean_color.Predictor):
    """Four colours, or the first of them."""

    answers = ANSWERS

    def decide(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.clip(outputs["colors"][: self.answers], 0, 1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """An option of its own."""
    group = parser.add_argument_group("how a model of object colours looks at an image")
    group.add_argument("--answers", type=parsers.positive, default=ANSWERS, metavar="N", help="the first N")


def prepare(args: argparse.Namespace) -> int:
    if args.answers > ANSWERS:
        raise UsageError(f"there are {ANSWERS} answers; --answers asks for {args.answers}")
    return args.answers


def build(args: argparse.Namespace, runtime: Any, options: dict[str, Any], prepared: int) -> Predictor:
    predictor = Predictor(runtime, **options)
    predictor.answers = prepared
    return predictor


def describe(args: argparse.Namespace) -> dict[str, Any]:
    return {"answers": args.answers}


def around(options: dict[str, Any]) -> list[str]:
    return [f"the first {options['answers']} answers"]


HELP, EXAMPLE = "say how many colours are answered", "kseg count-colors 2"


def run(args: argparse.Namespace) -> int:
    """The module's command, whose only argument is `--answers`."""
    print(prepare(args), "colours")
    return 0


def outputs(spec: Any, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    return {"colors": (ANSWERS, 3)}


def scorer(spec: Any, samples: Any) -> tuple[Scorer, Any]:
    return Scorer(), samples


TASK = tasks.Task(
    **{
        **vars(mean_color.TASK),
        "name": NAME,
        "look": "object_colors",
        "commands": {"count-colors": "object_colors"},
        "outputs": "object_colors:outputs",
        "scorer": "object_colors:scorer",
        "predictor": "object_colors:Predictor",
        "training": "object_colors:Goal",
    }
)
tasks.register(TASK)
