"""What a report shows of an instance model: cards, objects outlined and judged, AP of each class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from kseg.data.detections import Detections
from kseg.data.instances import Instances
from kseg.instance.drawing import Color, color_of, layer
from kseg.instance.pictures import CONFIDENT
from kseg.instance.tables import SUMMARY
from kseg.metrics.instances import InstanceScorer
from kseg.metrics.instances.errors import judged
from kseg.spec import Spec
from kseg.tasks import Page, percent
from kseg.viz import viewer
from kseg.viz.escaping import escape

Example = tuple[str, Any, Instances | None, Detections]
_CARDS = {"ap": "mask AP", "ap50": "mask AP50", "box_ap": "box AP"}
RIGHT: Color = (40, 190, 90)
WRONG: Color = (230, 40, 60)
MISSED: Color = (60, 120, 255)


def page(
    examples: Iterable[Example], scores: Mapping[str, InstanceScorer | Mapping[str, Any]], spec: Spec
) -> Page:
    """Return the sections of a page; `examples` and `scores` as `kseg.viz.write_report` takes them."""
    splits = {
        name: given.summary() if isinstance(given, InstanceScorer) else dict(given)
        for name, given in scores.items()
    }
    cards = [
        (f"{percent(found.get(key))} %", f"{text}, {name}")
        for name, found in splits.items()
        for key, text in _CARDS.items()
    ]
    figures = [_figure(*example) for example in examples]
    legend = (
        f'<div class="legend">{_chip(RIGHT, "matched")}{_chip(WRONG, "wrong")}{_chip(MISSED, "missed")}'
        f"<span>detections of score {CONFIDENT} and more</span></div>"
    )
    return Page(
        cards=cards, examples=viewer.section(figures, legend), tables=_classes(splits) + _scores(splits)
    )


def _figure(name: str, image: Any, truth: Instances | None, found: Detections) -> str:
    photo = Image.fromarray(np.asarray(image, np.uint8))
    sure = found[found.scores >= CONFIDENT]
    layers = {viewer.PHOTO: viewer.photo_uri(photo)}
    if truth is not None:
        true = truth.ids().tolist()
        layers["truth"] = _uri((truth.mask(k) for k in true), [color_of(k) for k in true], sure.size)
    layers["prediction"] = _uri(
        (sure.mask(i) for i in range(len(sure))), [color_of(i) for i in range(len(sure))], sure.size
    )
    if truth is not None:
        verdicts, missed = judged(truth, sure)
        colors = [RIGHT if verdict in ("correct", "crowd") else WRONG for verdict in verdicts]
        masks = [sure.mask(i) for i in range(len(sure))] + [truth.mask(int(k)) for k in missed]
        layers["errors"] = _uri(masks, colors + [MISSED] * len(missed), sure.size)
    return viewer.figure(str(name), layers, viewer.shrunk(photo.size))


def _uri(masks: Iterable[Any], colors: list[Color], size: tuple[int, int]) -> str:
    picture = Image.fromarray(layer(masks, colors, size))
    return viewer.data_uri(
        picture.resize(viewer.shrunk(picture.size), Image.Resampling.NEAREST), format="PNG"
    )


def _chip(color: Color, text: str) -> str:
    return f'<span><i class="sw" style="background:rgb{color}"></i>{text}</span>'


def _classes(splits: Mapping[str, Mapping[str, Any]]) -> str:
    if not splits:
        return ""
    head = "".join(
        f'<th class="n">AP, {escape(name)}</th><th class="n">AP50, {escape(name)}</th>'
        '<th class="n">objects</th>'
        for name in splits
    )
    names = dict.fromkeys(label for found in splits.values() for label in found["classes"])
    rows = []
    for label in names:
        cells = [f"<td>{escape(label)}</td>"]
        for found in splits.values():
            row = found["classes"].get(label, {})
            cells += [f'<td class="n">{percent(row.get(key))}</td>' for key in ("ap", "ap50")]
            cells.append(f'<td class="n">{row.get("objects", 0)}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return (
        "<section><h2>Classes</h2><p>AP: area under the curve of precision over recall, mean over IoU 0.5 to "
        '0.95 of masks; AP50 at IoU 0.5.</p><div class="scroll"><table><thead>'
        f"<tr><th>class</th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _scores(splits: Mapping[str, Mapping[str, Any]]) -> str:
    if not splits:
        return ""
    head = "".join(f'<th class="n">{escape(name)}, %</th>' for name in splits)
    rows = "".join(
        f"<tr><td>{escape(text)}</td>"
        + "".join(f'<td class="n">{percent(found.get(key))}</td>' for found in splits.values())
        + "</tr>"
        for key, text in SUMMARY.items()
    )
    return (
        f'<section><h2>Scores</h2><div class="scroll"><table><thead><tr><th>score</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )
