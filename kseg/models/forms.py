"""Other forms of one network, over the same weights: with every head, on single patches, with losses inside.

A network of kseg has one image and the outputs of its task. What only training needs (the losses of earlier
instances, a second task, single patches, matching with the truth) is attached here, never in files: `create`
attaches it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

MAIN = "logits"
IMAGE = "image"


@dataclass(frozen=True)
class Head:
    """A further output of a network, with its own share of the loss.

    Args:
        name: what histories and errors call it, for example `"instance1"`.
        output: symbolic float32 logits `(B, H, W, C)`, of the graph from the network's own input.
        weight: factor on its loss.
        labels: label of this head for each class id of the data; None: the class ids themselves.
    """

    name: str
    output: Any
    weight: float = 1.0
    labels: tuple[int, ...] | None = None


@dataclass(frozen=True)
class PatchForm:
    """The network on patches: one answer, for the pixel in the middle.

    Args:
        model: shares the layers of the network; `(B, size, size, channels)` -> float32 logits `(B, 1, 1, C)`,
            or a dict of them, `"logits"` first, when the network has heads.
        size: side of a patch in pixels: the receptive field.
    """

    model: keras.Model
    size: int

    @property
    def centre(self) -> int:
        """Index of the labelled pixel; for an even size the first of the two in the middle."""
        return (self.size - 1) // 2


@dataclass(frozen=True)
class LossForm:
    """The network with its losses inside its graph, where they need the truth: to match it, to sample by it.

    Args:
        model: functional, shares the layers of the network. Inputs by name: `"image"`, and each array that
            the task's `encode` makes of a sample (`"truth"`, if it makes one without a name). Outputs by
            name: float32 `(B,)`, a loss for each image.
        weights: factor on a loss by its name; 1 for the others.
    """

    model: keras.Model
    weights: Mapping[str, float] = field(default_factory=dict)


def attach(
    model: keras.Model,
    *,
    heads: Sequence[Head] = (),
    patch: PatchForm | None = None,
    losses: Callable[[], LossForm] | None = None,
) -> keras.Model:
    """Give `model` its heads, its patch form and what makes its form with losses; returns it.

    A network with losses inside is trained in that form only, and scored on whole images by its task's
    scorer.
    """
    model.heads = tuple(heads)
    model.patch_form = patch
    model.make_loss_form = losses
    return model


def heads(model: keras.Model) -> tuple[Head, ...]:
    """Return the further heads of a network, without its main output."""
    return getattr(model, "heads", ())


def patch_form(model: keras.Model) -> PatchForm | None:
    """Return the patch form of a network, None when it has none."""
    return getattr(model, "patch_form", None)


def loss_form(model: keras.Model) -> LossForm | None:
    """Build the form of a network with losses inside, None when it has none."""
    make = getattr(model, "make_loss_form", None)
    return None if make is None else make()


def with_heads(model: keras.Model) -> keras.Model:
    """Return the network with all its outputs: a dict of logits, `"logits"` first; itself without heads."""
    further = heads(model)
    if not further:
        return model
    outputs = {MAIN: model.output, **{head.name: head.output for head in further}}
    return keras.Model(model.input, outputs, name=f"{model.name}_with_heads")
