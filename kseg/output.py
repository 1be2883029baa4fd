"""What every command prints with: tables on stdout, progress on stderr, JSON alone on stdout."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from rich.console import Console, ConsoleOptions, RenderableType, RenderHook
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment

from kseg.text import encodable, printable


class _Escaped:
    """What is printed, without the control characters that file and class names may hold."""

    def __init__(self, inner: RenderableType) -> None:
        self._inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self._inner, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                lines = segment.text.split("\n")
                yield Segment("\n".join(printable(line) for line in lines), segment.style)


class _Escape(RenderHook):
    """Puts everything that a console prints into `_Escaped`."""

    def process_renderables(self, renderables: list[Any]) -> list[Any]:
        return [_Escaped(renderable) for renderable in renderables]


class _Console(Console):
    """rich ends the process when the reader of stdout is gone; here the command's frame decides."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


console = _Console(soft_wrap=False)
errors = Console(stderr=True, soft_wrap=True, highlight=False)
for _each in (console, errors):
    _each.push_render_hook(_Escape())

T = TypeVar("T")


def progress(items: Iterable[T], total: int | None, text: str) -> Iterator[T]:
    """Yield `items` with a progress bar on stderr (a plain line where stderr is no terminal)."""
    if not errors.is_terminal:
        text = printable(text)
        errors.print(f"{text} …" if total is None else f"{text}: {total} …", style="dim", markup=False)
        yield from items
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task(printable(text), total=total)
        for item in items:
            yield item
            bar.advance(task)


def _finite(value: Any) -> Any:
    """JSON has no NaN: an undefined number is null."""
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def print_json(value: Mapping[str, Any] | list[Any]) -> None:
    """Print one JSON document to stdout, for machines."""
    print(encodable(json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False)))


def closing_line(text: str) -> None:
    """Print the command that a user would type next (on stderr, so that stdout stays clean)."""
    errors.print(f"next: {printable(text)}", style="dim", markup=False)


def note_line(text: str) -> None:
    """Print what a user should know about a result, on stderr."""
    errors.print(f"note: {text}", style="yellow", markup=False)


def error_line(text: str) -> None:
    """Print one error line to stderr, newlines folded, other control characters escaped."""
    errors.print("kseg: " + printable(" ".join(text.split())), style="red", markup=False)
