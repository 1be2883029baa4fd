"""Losses by name."""

from __future__ import annotations

import inspect
import re
from typing import Any

from kseg.errors import UsageError, did_you_mean
from kseg.losses.base import PixelLoss
from kseg.losses.combined import Combined
from kseg.losses.pixel import Focal, OnlineHardExample, PixelCrossEntropy
from kseg.losses.region import Dice, Jaccard, Lovasz, Tversky

_LOSSES: dict[str, type[PixelLoss]] = {
    "cross_entropy": PixelCrossEntropy,
    "dice": Dice,
    "focal": Focal,
    "jaccard": Jaccard,
    "lovasz": Lovasz,
    "ohem": OnlineHardExample,
    "tversky": Tversky,
}
_ALIASES = {
    "ce": "cross_entropy",
    "pixelcrossentropy": "cross_entropy",
    "iou": "jaccard",
    "lovaszsoftmax": "lovasz",
    "onlinehardexample": "ohem",
}
_TERM = re.compile(r"^(?:(?P<weight>[0-9.]+(?:e-?[0-9]+)?)\*)?(?P<name>[^*]+)$")


def names() -> list[str]:
    """Return the names that `create` knows, sorted."""
    return sorted(_LOSSES)


def resolve(name: str) -> str:
    """Return the registered name of one loss, whatever its case and separators.

    Raises:
        UsageError: if there is no such loss.
    """
    plain = re.sub(r"[^a-z0-9]", "", str(name).lower())
    known = {key.replace("_", ""): key for key in _LOSSES} | _ALIASES
    if plain not in known:
        raise UsageError(
            f"Unknown loss '{name}'.{did_you_mean(str(name), names())} Known: {', '.join(names())}; "
            "or a sum such as 'cross_entropy + 0.5*dice'"
        )
    return known[plain]


def create(name: str, **kwargs: Any) -> PixelLoss | Combined:
    """Return a loss by name, or a sum of several.

    Args:
        name: one of `names()`, or a sum such as `"cross_entropy+dice"` or `"ce + 0.5*lovasz"`. Case,
            spaces, `-` and `_` do not matter.
        **kwargs: arguments of the loss. In a sum each part gets those that it knows, for example
            `ignore_id` and `class_weights` all of them, `gamma` only focal.

    Raises:
        UsageError: if a name is unknown, or an argument is known to no part.

    Example:

    ```python
    loss = kseg.losses.create("focal", gamma=3.0, ignore_id=255)
    ```
    """
    parts = []
    for term in re.sub(r"\s", "", str(name)).split("+"):
        match = _TERM.match(term)
        if match is None:
            raise UsageError(
                f"Loss `name` must be a name or a sum such as 'cross_entropy + 0.5*dice'. Received: {name!r}"
            )
        parts.append((_weight(match["weight"], name), _LOSSES[resolve(match["name"])]))
    accepted = [_arguments(kind) for _, kind in parts]
    unknown = [key for key in kwargs if not any(key in known for known in accepted)]
    if unknown:
        every = sorted(set().union(*accepted))
        raise UsageError(
            f"Loss '{name}' has no argument `{unknown[0]}`.{did_you_mean(unknown[0], every)} "
            f"It takes: {', '.join(every)}"
        )
    built = [
        kind(**{key: value for key, value in kwargs.items() if key in known})
        for (_, kind), known in zip(parts, accepted, strict=True)
    ]
    if len(built) == 1 and parts[0][0] == 1.0:
        return built[0]
    return Combined(built, [weight for weight, _ in parts])


def _weight(text: str | None, name: str) -> float:
    """Read the factor in front of `*`."""
    try:
        return 1.0 if text is None else float(text)
    except ValueError:
        raise UsageError(f"Loss `name` has a factor that is no number: '{text}' in {name!r}") from None


def _arguments(kind: type[PixelLoss]) -> set[str]:
    """Return the names of a loss' constructor arguments."""
    return set(inspect.signature(kind.__init__).parameters) - {"self"}
