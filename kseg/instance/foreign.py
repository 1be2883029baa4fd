"""Whether a network that kseg did not make gives what an instance one gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kseg.errors import UsageError
from kseg.instance.outputs import BOXES, CLASSES, MASKS, SCORES

if TYPE_CHECKING:
    import keras


def check_foreign(network: keras.Model) -> None:
    """Refuse a network without boxes, scores, classes and masks by name."""
    names = (BOXES, SCORES, CLASSES, MASKS)
    given = list(network.output) if isinstance(network.output, dict) else []
    if len(network.inputs) != 1 or sorted(given) != sorted(names):
        raise UsageError(
            f"kseg.save writes instance networks that turn an image into {', '.join(names)}, by name. "
            f"Received: '{network.name}', {len(network.inputs)} inputs and outputs {given or 'without names'}"
        )
