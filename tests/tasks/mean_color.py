"""A task from outside the package: the mean colour of an image. No file of kseg knows it.

The network sees the image and must say its mean colour in 0..1; a second output says how light it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from kseg import tasks
from kseg.data import preprocess
from kseg.data.transforms.resize import resize_image
from kseg.inference.pictures import as_image
from kseg.inference.runtime import load_runtime
from kseg.models.registry import register
from kseg.spec import Spec
from kseg.training.goal import Seen

NAME = "mean-color"
COLORS = ("red", "green", "blue")


@register(paper="none: a toy", output_stride=1, task=NAME)
def MeanColorNet(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 2,
    name: str | None = None,
) -> keras.Model:
    """Toy: two numbers by a convolution and a mean."""
    image = keras.Input(input_shape, name="image")
    x = keras.layers.Conv2D(8, 1, activation="relu")(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = {
        "color": keras.layers.Dense(3, name="color")(x),
        "lightness": keras.layers.Dense(1, name="lightness")(x),
    }
    return keras.Model(image, outputs, name=name or "mean_color_net")


def outputs(spec: Spec, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    return {"color": (3,), "lightness": (1,)}


def truth(sample: Any) -> dict[str, np.ndarray]:
    color = sample.image.reshape(-1, 3).mean(0, dtype=np.float64).astype(np.float32) / 255
    return {"color": color, "lightness": color.mean(keepdims=True)}


class Goal:
    """What `fit` asks."""

    encode = staticmethod(truth)

    def __init__(self, config: Any) -> None:
        pass

    def look(self, samples: Sequence[Any], spec: Spec, split: str, say: Any) -> Seen:
        return Seen(tuple(sorted({sample.image.shape[:2] for sample in samples})), None)

    def recount(self, samples: Sequence[Any], spec: Spec) -> None:
        return None

    def check_held_out(self, samples: Sequence[Any], spec: Spec, split: str) -> None:
        assert len(samples)

    def class_weights(self, facts: Any, batch_size: int) -> None:
        return None

    def loss(self, settled: Any, head: Any = None) -> dict[str, str]:
        return {"color": "mse", "lightness": "mse"}

    def metrics(self, settled: Any) -> dict[str, list[keras.metrics.Metric]]:
        return {"color": [Closeness(name="closeness")]}

    def chance(self, spec: Spec, validation: Any, score: float) -> dict[str, Any]:
        return {}


class Closeness(keras.metrics.MeanMetricWrapper):
    """One minus the mean absolute error."""

    def __init__(self, name: str) -> None:
        super().__init__(lambda y_true, y_pred: 1 - keras.ops.abs(y_true - y_pred), name=name)


class Scorer:
    """The same over whole images."""

    def __init__(self) -> None:
        self.errors: list[np.ndarray] = []

    def add(self, sample: Any, prediction: np.ndarray) -> None:
        self.errors.append(np.abs(truth(sample)["color"] - prediction))

    def scores(self) -> dict[str, Any]:
        return {"closeness": 1 - float(np.mean(self.errors)), "images": len(self.errors)}

    def comparable(self) -> float:
        return float(self.scores()["closeness"])

    def parts(self) -> dict[str, float | None]:
        return dict(zip(COLORS, (1 - np.mean(self.errors, 0)).tolist(), strict=True))

    def chance(self) -> None:
        return None

    def agreement(self, one: np.ndarray, other: np.ndarray) -> tuple[int, int]:
        return int((np.abs(one - other) < 0.01).sum()), one.size

    def summary(self) -> dict[str, Any]:
        return self.scores()

    def __add__(self, other: Scorer) -> Scorer:
        merged = Scorer()
        merged.errors = self.errors + other.errors
        return merged


def scorer(spec: Spec, samples: Any) -> tuple[Scorer, Any]:
    return Scorer(), samples


class Predictor:
    """Shows the whole image to the network, resized."""

    def __init__(self, source: Any, *, size: tuple[int, int] | None = None) -> None:
        if isinstance(source, keras.Model):
            from kseg.inference.keras_runtime import KerasRuntime

            source = KerasRuntime(source)
        self.runtime = load_runtime(source) if isinstance(source, str | Path) else source
        self.spec = self.runtime.spec
        self.size = self.runtime.input_size or size or self.spec.input_size

    def outputs(self, image: Any) -> Mapping[str, np.ndarray]:
        pixels = preprocess(resize_image(as_image(image), self.size), self.spec.normalization)
        return {name: values[0] for name, values in self.runtime.outputs(pixels[None]).items()}

    def decide(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.clip(outputs["color"], 0, 1)

    def stream(self, images: Iterable[Any]) -> Iterator[np.ndarray]:
        return (self.decide(self.outputs(image)) for image in images)

    def __call__(self, images: Iterable[Any]) -> list[np.ndarray]:
        return list(self.stream(images))

    def close(self) -> None:
        self.runtime.close()


KINDS = {"swatch": "_swatch.png"}
WRITTEN = ("swatch",)
HELP = "swatch (a square of the colour)"


def write(kind: str, target: Path, image: np.ndarray, prediction: np.ndarray, spec: Spec) -> None:
    color = tuple(int(value) for value in np.rint(255 * prediction))
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), color).save(target)


def describe(prediction: np.ndarray, spec: Spec) -> dict[str, Any]:
    return {"color": [round(float(value), 3) for value in prediction]}


def tables(found: Scorer, spec: Spec) -> tasks.Result:
    rows = [(name, f"{100 * (value or 0):.1f}") for name, value in found.parts().items()]
    return tasks.Result(found.scores(), [tasks.Table(("color", "closeness, %"), rows)], "as a whole")


def page(examples: Iterable[Any], scores: Mapping[str, Any], spec: Spec) -> tasks.Page:
    names = ", ".join(name for name, _, _, _ in examples)
    cards = [(f"{100 * found.comparable():.1f} %", f"closeness, {split}") for split, found in scores.items()]
    return tasks.Page(cards=cards, examples=f"<section><h2>Colours of {names}</h2></section>", tables="")


def check_foreign(network: keras.Model) -> None:
    assert network.output


TASK = tasks.Task(
    name=NAME,
    headline="closeness",
    label="closeness",
    title="closeness of the mean colour",
    part_label="closeness",
    agreed="same colour in {share} of channels",
    scored="one minus the mean absolute error over {splits}",
    charts={"closeness": "Closeness, %"},
    looks=("size",),
    outputs="mean_color:outputs",
    scorer="mean_color:scorer",
    predictor="mean_color:Predictor",
    training="mean_color:Goal",
    check_foreign="mean_color:check_foreign",
    pictures="mean_color",
    tables="mean_color:tables",
    page="mean_color:page",
)
tasks.register(TASK)
