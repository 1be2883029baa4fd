"""Encoders and decoders of one network are thinned alike."""

from __future__ import annotations

import pytest

from kseg.encoders.stack import Stack
from kseg.layers.widths import channels


@pytest.mark.parametrize(
    ("count", "width", "expected"),
    [
        (37, 1, 37),
        (37, 1.0, 37),
        (64, 0.125, 8),
        (64, 0.03, 8),
        (192, 0.5, 96),
        (64, 2, 128),
        (50, 0.5, 24),
        # Half of a multiple goes to the even one.
        (200, 0.5, 96),
        (24, 0.5, 16),
    ],
)
def test_widths_are_multiples_of_eight(count: int, width: float, expected: int) -> None:
    assert channels(count, width) == expected
    assert Stack(width=width).channels(count) == expected
