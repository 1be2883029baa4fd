"""The one rounding of widths: how many channels a thinned or widened layer has."""


def channels(count: int, width: float) -> int:
    """Return `count * width` channels, rounded to a multiple of 8, at least 8; `count` itself at width 1."""
    return count if width == 1 else max(8, 8 * round(count * width / 8))
