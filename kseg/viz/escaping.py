"""Text from strangers in a page."""

from __future__ import annotations

import html

from kseg.text import printable


def escape(text: object) -> str:
    """Return `text` for HTML: neither markup nor control characters in it do anything."""
    return html.escape(printable(text))
