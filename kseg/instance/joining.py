"""Objects of an image out of what its windows show of them: each once, joined where no window shows all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kseg.boxes import cut, iou
from kseg.instance.windows import CUT, Size, margins

# Pieces are of one object from this overlap on: intersection over union of what both windows show.
SAME = 0.5
# Of two objects of different windows the less sure is left out if they share so much of the smaller: one
# window took for several what the other took for one.
COVERED = 0.8


@dataclass(frozen=True, eq=False)
class Piece:
    """What windows show of an object.

    Args:
        box: float32 (4,) in pixels of the image, as all boxes.
        score: of the object.
        kind: its class.
        mask: bool, the pixels of `place`.
        place: whole pixels (4,), inside of `view`.
        view: the window, or the box around several, whole pixels (4,).
    """

    box: NDArray[np.float32]
    score: float
    kind: int
    mask: NDArray[np.bool_]
    place: NDArray[np.integer]
    view: NDArray[np.integer]

    def under(self, box: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Return the mask at the pixels of a box."""
        return cut(self.mask, box - np.tile(self.place[:2], 2), False)


def objects(pieces: Sequence[Piece], size: Size) -> list[Piece]:
    """Return each object once: its piece deepest inside of a window, or all as one where windows cut each.

    Args:
        pieces: of all windows.
        size: of the image.
    """
    if not pieces:
        return []
    boxes, views = (np.stack([getattr(piece, name) for piece in pieces]) for name in ("box", "view"))
    depths = margins(boxes, views, size).min(axis=1)
    found = []
    for group in _groups(pieces):
        deepest = max(group, key=lambda index: depths[index])
        used = [pieces[index] for index in ([deepest] if depths[deepest] > CUT else group)]
        score = max(pieces[index].score for index in group)
        found.append((_joined(used, score), {_window(piece) for piece in used}))
    found.sort(key=lambda entry: -entry[0].score)
    return _apart([piece for piece, _ in found], [shown for _, shown in found])


def _groups(pieces: Sequence[Piece]) -> list[list[int]]:
    """Return the indices of the pieces of each object: of a window one at most, what agrees best first."""
    groups = [[index] for index in range(len(pieces))]
    for _, one, other in sorted(_agreeing(pieces), reverse=True):
        first, second = groups[one], groups[other]
        if {_window(pieces[index]) for index in first}.isdisjoint(_window(pieces[index]) for index in second):
            first.extend(second)
            for index in second:
                groups[index] = first
    return [group for index, group in enumerate(groups) if group[0] == index]


def _window(piece: Piece) -> tuple[int, ...]:
    return tuple(piece.view.tolist())


def _agreeing(pieces: Sequence[Piece]) -> Iterator[tuple[float, int, int]]:
    """Yield how much pieces of different windows agree, and their indices, where they are of one object."""
    for one, other in _near(pieces):
        share = _agreement(pieces[one], pieces[other])
        if share >= SAME:
            yield share, one, other


def _near(pieces: Sequence[Piece]) -> Iterator[tuple[int, int]]:
    """Yield the indices of pieces of one class and different windows whose places meet, the lower first."""
    places, views = (np.stack([getattr(piece, name) for piece in pieces]) for name in ("place", "view"))
    kinds = np.array([piece.kind for piece in pieces])
    for one, piece in enumerate(pieces):
        rest = slice(one + 1, None)
        near = (iou(places[one : one + 1], places[rest])[0] > 0) & (kinds[rest] == piece.kind)
        near &= (views[rest] != piece.view).any(axis=1)
        yield from ((one, other) for other in (np.flatnonzero(near) + one + 1).tolist())


def _agreement(one: Piece, other: Piece) -> float:
    """Return the intersection over union of two masks within what both windows show."""
    box = _around([one, other])
    box[:2] = np.maximum(box[:2], np.maximum(one.view[:2], other.view[:2]))
    box[2:] = np.minimum(box[2:], np.minimum(one.view[2:], other.view[2:]))
    first, second = one.under(box), other.under(box)
    return float((first & second).sum() / max((first | second).sum(), 1))


def _apart(found: Sequence[Piece], shown: Sequence[set[tuple[int, ...]]]) -> list[Piece]:
    """Return objects, the surest first, without what is covered by a surer one that other windows showed."""
    gone = set()
    for one, other in _near(found):
        if one not in gone and shown[one].isdisjoint(shown[other]):
            box = _around([found[one], found[other]])
            common = (found[one].under(box) & found[other].under(box)).sum()
            if common >= COVERED * min(found[one].mask.sum(), found[other].mask.sum()):
                gone.add(other)
    return [piece for index, piece in enumerate(found) if index not in gone]


def _around(pieces: Sequence[Piece], name: str = "place") -> NDArray[Any]:
    boxes = np.stack([getattr(piece, name) for piece in pieces])
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def _joined(pieces: Sequence[Piece], score: float) -> Piece:
    """Return the union of pieces."""
    place, view, box = (_around(pieces, name) for name in ("place", "view", "box"))
    mask = np.any([piece.under(place) for piece in pieces], axis=0)
    return Piece(box, score, pieces[0].kind, mask, place, view)
