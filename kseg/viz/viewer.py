"""The report's viewer of examples: layers of one picture as data URIs, wiped against each other."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from kseg.viz.escaping import escape

# Pictures are shrunk to this many pixels on the longer side: ten CamVid examples make 1 MB.
LONGEST = 960
# The layer that is no mask: masks are laid over it.
PHOTO = "image"

VIEWER = """<div class="viewer"><div class="controls"><b class="name"></b>
<label>left <select id="left"></select></label><label>right <select id="right"></select></label>
<label>mask opacity <input id="opacity" type="range" min="10" max="100" value="65"></label></div>
<div class="stage"><div class="leftside"><img class="base" alt=""><img class="top mask" alt=""></div>
<div class="right"><img class="base" alt=""><img class="top mask" alt=""></div><div class="line"></div>
<span class="tag a"></span><span class="tag b"></span>
<input type="range" min="0" max="100" value="50" aria-label="wipe between the left and the right layer"></div>
<div class="thumbs" role="group" aria-label="examples"></div>
<p>Drag, or use the arrow keys, to wipe; N and P go to the next and the previous example.</p></div>"""


def data_uri(picture: Image.Image, **save: Any) -> str:
    """Return a picture as a data URI; `save` is for `Image.save`, with the format."""
    buffer = io.BytesIO()
    picture.save(buffer, **save)
    kind = str(save["format"]).lower()
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def shrunk(size: tuple[int, int]) -> tuple[int, int]:
    """Return (width, height) at most `LONGEST` long."""
    factor = min(1.0, LONGEST / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def photo_uri(picture: Image.Image) -> str:
    """Return the photo of an example, shrunk."""
    return data_uri(picture.resize(shrunk(picture.size), Image.Resampling.LANCZOS), format="JPEG", quality=85)


def figure(name: str, layers: Mapping[str, str], size: tuple[int, int]) -> str:
    """Return one example.

    Args:
        name: caption.
        layers: name -> data URI; `PHOTO` is the photo, the others are laid over it.
        size: (width, height) of the pictures.
    """
    panes = "".join(
        f'<div><img data-layer="{key}" class="{"photo" if key == PHOTO else "mask"}" src="{uri}" '
        f'width="{size[0]}" height="{size[1]}" alt="{key} of {escape(name)}"><span>{key}</span></div>'
        for key, uri in layers.items()
    )
    caption = f"<figcaption>{escape(name)}</figcaption>"
    return f'<figure class="example">{caption}<div class="panes">{panes}</div></figure>'


def section(figures: Sequence[str], legend: str) -> str:
    """Return the section with the viewer, or an empty text when there are no examples."""
    if not figures:
        return ""
    examples = f'<div class="examples">{"".join(figures)}</div>'
    return f"<section><h2>Examples</h2>{VIEWER}{examples}{legend}</section>"
