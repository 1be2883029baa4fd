"""The ends that every artefact has: one input `image`, and the outputs of its task. numpy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kseg import tasks
from kseg.errors import ArtefactError, UsageError
from kseg.spec import Spec
from kseg.text import printable

INPUT = "image"
Shape = tuple[int, ...]


def output_shapes(spec: Spec, size: tuple[int, int]) -> dict[str, Shape]:
    """Return the outputs that a graph of this spec has at an input size: name -> shape, batch left out."""
    shapes: dict[str, Shape] = tasks.find(spec.task).part("outputs")(spec, size)
    return shapes


def fit(expected: Mapping[str, Shape], given: Mapping[str, Sequence[object]]) -> bool:
    """Whether outputs have the names and shapes of a task, in any order; `ANY` fits every whole number."""
    if set(expected) != set(given) or any(len(given[name]) != len(shape) for name, shape in expected.items()):
        return False
    sides = [pair for name, shape in expected.items() for pair in zip(shape, given[name], strict=True)]
    return all(found == side or (side == tasks.ANY and isinstance(found, int)) for side, found in sides)


@dataclass(frozen=True)
class Ends:
    """The ends of one file, checked.

    Args:
        input_shape: `(B, H, W, channels)`; the batch as the file has it.
        size: `(H, W)` of it.
        outputs: name -> shape, batch left out.
    """

    input_shape: tuple[object, ...]
    size: tuple[int, int]
    outputs: dict[str, Shape]


def checked_ends(
    path: Path, spec: Spec, inputs: Mapping[str, Sequence[object]], outputs: Mapping[str, Sequence[object]]
) -> Ends:
    """Return the ends of a file.

    Args:
        path: the file, for the message.
        spec: what it carries; its task says which outputs there are.
        inputs, outputs: name -> shape, batch first, as the file has them.

    Raises:
        ArtefactError: if a name or a shape is another.
    """
    shape = tuple(inputs.get(INPUT, ()))
    channels = tasks.find(spec.task).channels
    sides = [side for side in shape[1:3] if isinstance(side, int) and side > 0]
    takes = set(inputs) == {INPUT} and len(sides) == 2 and shape[1:] == (*sides, channels)
    given: dict[str, Any] = {name: tuple(found)[1:] for name, found in outputs.items()}
    expected = output_shapes(spec, (sides[0], sides[1])) if takes else {}
    if not takes or not fit(expected, given):
        raise ArtefactError(
            f"'{printable(path)}' must have one input {INPUT} (B, H, W, {channels}) and one output "
            f"{tasks.described_outputs(spec)}, as its spec says. "
            f"Received: {_listed(inputs)} and {_listed(outputs)}"
        )
    return Ends(shape, (sides[0], sides[1]), {name: given[name] for name in expected})


def _listed(ends: Mapping[str, Sequence[object]]) -> str:
    return ", ".join(f"{printable(name)} {tuple(shape)}" for name, shape in sorted(ends.items())) or "none"


def checked_images(path: Path, images: np.ndarray, input_shape: Sequence[object]) -> np.ndarray:
    """Return `images` as contiguous float32 `(B, H, W, channels)`, whose last three must be the file's.

    Args:
        path: the artefact, for the message.
        images: what the caller gave.
        input_shape: the file's own input shape, batch first.

    Raises:
        UsageError: if the shapes differ.
    """
    checked = np.ascontiguousarray(images, np.float32)
    if checked.ndim != 4 or checked.shape[1:] != tuple(input_shape[1:]):
        sides = ", ".join(map(str, input_shape[1:]))
        raise UsageError(f"'{path.name}' takes images of shape (B, {sides}). Received: {checked.shape}")
    return checked
