"""A whole image or its blended tiles: logits at the image's own size, handed out row band by row band.

A view never holds logits of the whole image at the image's size: `WholeView` enlarges the network's
answer as rows are asked for, `TiledView` keeps the rows that unfinished tiles still reach.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kseg.data.transforms.resize import resize_image
from kseg.inference.geometry import resize_channels, resize_rows, tile_starts

# Standard deviation of the blending window as a share of the tile's side: 1/8, as in MONAI and nnU-Net.
_SIGMA = 0.125
_LEAST_WEIGHT = 1e-3

Floats = NDArray[np.float32]
Size = tuple[int, int]


def blend_weights(length: int, window: int, starts: list[int]) -> Floats:
    """Return float32 `(len(starts), window)`: each tile's weight along one axis.

    Gaussian around the tile's centre and divided by the sum over tiles, so that at every one of the
    `length` pixels the weights of the tiles that cover it add up to 1 (one tile alone: exactly 1).
    """
    center = (window - 1) / 2
    offsets = (np.arange(window) - center) / (_SIGMA * window)
    bell = np.maximum(np.exp(-0.5 * offsets**2), _LEAST_WEIGHT)
    total = np.zeros(max(length, window))
    for start in starts:
        total[start : start + window] += bell
    return np.stack([bell / total[start : start + window] for start in starts]).astype(np.float32)


@dataclass(frozen=True)
class Request:
    """One network call to be made: `pixels` are padded at the bottom and right to `net_size`.

    Args:
        pixels: uint8 `(h, w, 3)`, no larger than `net_size`.
        net_size: `(height, width)` at which the network is run.
        flip: mirror left-right before, and the logits back after.
    """

    pixels: NDArray[np.uint8]
    net_size: Size
    flip: bool


# Answers requests with logits (h, w, classes) of the size of each request's pixels.
Run = Callable[[Sequence[Request]], list[Floats]]


@dataclass(frozen=True)
class Look:
    """How one view sees an image: windows of `window` pixels, each run by the network at `net_size`.

    Args:
        window: `(height, width)` in the image's pixels; None: the whole image is one window.
        net_size: `(height, width)` at which the network is run.
        content: `(height, width)` that the whole image takes inside `net_size`; only with window=None.
        flip: mirror left-right.
    """

    window: Size | None
    net_size: Size
    content: Size | None
    flip: bool


class WholeView:
    """The network's answer to the whole image, enlarged band by band."""

    def __init__(self, logits: Floats, size: Size, columns: tuple[int, int]) -> None:
        self._logits = logits
        self._size = size
        self._columns = slice(*columns)
        self._cursor = 0

    def rows(self, last: int) -> Floats:
        """Return the logits `(last - cursor, columns, classes)` from where the previous call ended."""
        first, self._cursor = self._cursor, last
        return resize_rows(self._logits, self._size, first, last)[:, self._columns]


class TiledView:
    """Overlapping tiles blended by Gaussian weights, for the columns `first_column..last_column`.

    Only a ring of `window + band` rows is kept; a row leaves it when every tile that covers it has run.

    Args:
        image: uint8 `(H, W, 3)`.
        look: window and network size.
        overlap: share of the window that neighbours have in common at least.
        columns: `(first, last)` columns of the image that are asked for.
        band: most rows that one call of `rows` will ask for.
        classes: number of logits per pixel.
        batch_size: tiles that are run at once.
        run: makes the network calls.
    """

    def __init__(
        self,
        image: NDArray[np.uint8],
        look: Look,
        *,
        overlap: float,
        columns: tuple[int, int],
        band: int,
        classes: int,
        batch_size: int,
        run: Run,
    ) -> None:
        if look.window is None:
            raise ValueError("a tiled view needs a window")
        height, width = image.shape[:2]
        self._image, self._look = image, look
        self._run, self._batch_size = run, batch_size
        self._tile = (min(look.window[0], height), min(look.window[1], width))
        self._tops = tile_starts(height, self._tile[0], overlap)
        lefts = tile_starts(width, self._tile[1], overlap)
        self._row_weights = blend_weights(height, self._tile[0], self._tops)
        weights = blend_weights(width, self._tile[1], lefts)
        first, last = columns
        reached = [i for i, left in enumerate(lefts) if left < last and left + self._tile[1] > first]
        self._lefts = [lefts[i] for i in reached]
        self._column_weights = weights[reached]
        self._columns = columns
        self._ring = np.zeros((self._tile[0] + band, last - first, classes), np.float32)
        self._cursor = 0
        self._next = 0

    @property
    def buffer_shape(self) -> tuple[int, ...]:
        """Rows, columns and classes of the logits that the view keeps between bands."""
        return self._ring.shape

    def rows(self, last: int) -> Floats:
        """Return the logits `(last - cursor, columns, classes)` from where the previous call ended."""
        while self._next < len(self._tops) and self._tops[self._next] < last:
            self._add_tile_row(self._next)
            self._next += 1
        parts = []
        for part, _ in self._segments(self._cursor, last):
            parts.append(self._ring[part].copy())
            self._ring[part] = 0
        self._cursor = last
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _segments(self, first: int, last: int) -> list[tuple[slice, slice]]:
        """Where image rows `first..last` lie in the ring: up to two runs (ring slice, row slice)."""
        size = len(self._ring)
        start, count = first % size, last - first
        head = min(count, size - start)
        runs = [(slice(start, start + head), slice(0, head))]
        if head < count:
            runs.append((slice(0, count - head), slice(head, count)))
        return runs

    def _add_tile_row(self, index: int) -> None:
        top = self._tops[index]
        row_weight = self._row_weights[index][:, None, None]
        requests = [self._request(top, left) for left in self._lefts]
        # One batch after the other, so that answers do not pile up along a wide image.
        for begin in range(0, len(requests), self._batch_size):
            answers = self._run(requests[begin : begin + self._batch_size])
            for offset, logits in enumerate(answers):
                tile = begin + offset
                left, column_weight = self._lefts[tile], self._column_weights[tile]
                logits = resize_channels(logits, self._tile)
                first = max(left, self._columns[0])
                last = min(left + self._tile[1], self._columns[1])
                inner = slice(first - left, last - left)
                weighted = logits[:, inner] * column_weight[None, inner, None]
                weighted *= row_weight
                target = slice(first - self._columns[0], last - self._columns[0])
                for ring, rows in self._segments(top, top + self._tile[0]):
                    self._ring[ring, target] += weighted[rows]

    def _request(self, top: int, left: int) -> Request:
        height, width = self._tile
        pixels = self._image[top : top + height, left : left + width]
        window, net = self._look.window, self._look.net_size
        if window is not None and window != net:
            content = (
                max(1, round(height * net[0] / window[0])),
                max(1, round(width * net[1] / window[1])),
            )
            pixels = resize_image(pixels, content)
        return Request(pixels, net, self._look.flip)
