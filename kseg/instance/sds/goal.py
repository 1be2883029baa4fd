"""What of the common road networks of regions do not go: `kseg train`, and networks from elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from kseg.errors import UsageError

if TYPE_CHECKING:
    import keras


def refuse(config: Any) -> NoReturn:
    """Say how such a network is trained.

    Raises:
        UsageError: always: it learns from crops of proposals, in phases, and not from images.
    """
    raise UsageError(
        f"{config.model} learns from crops of proposed regions, in phases. "
        "Run: kseg train-sds --data DIR --out RUN"
    )


def check_foreign(network: keras.Model) -> None:
    """Refuse a network that `kseg.models.SDS` did not make.

    Raises:
        UsageError: always.
    """
    raise UsageError(
        f"kseg.save writes networks of regions that kseg.models.SDS made. Received: '{network.name}'"
    )
