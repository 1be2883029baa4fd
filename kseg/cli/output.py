"""What every command prints with: tables on stdout, progress on stderr, JSON alone on stdout."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class _Console(Console):
    """rich ends the process when the reader of stdout is gone; here the command's frame decides."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


console = _Console(soft_wrap=False)
errors = Console(stderr=True, soft_wrap=True, highlight=False)

T = TypeVar("T")


def progress(items: Iterable[T], total: int | None, text: str) -> Iterator[T]:
    """Yield `items` with a progress bar on stderr (a plain line where stderr is no terminal)."""
    if not errors.is_terminal:
        errors.print(f"{text} …" if total is None else f"{text}: {total} …", style="dim")
        yield from items
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task(text, total=total)
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
    print(json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False))


def closing_line(text: str) -> None:
    """Print the command that a user would type next (on stderr, so that stdout stays clean)."""
    errors.print(f"next: {text}", style="dim", markup=False)


def note_line(text: str) -> None:
    """Print what a user should know about a result, on stderr."""
    errors.print(f"note: {text}", style="yellow", markup=False)


def error_line(text: str) -> None:
    """Print one error line to stderr, newlines folded."""
    errors.print("kseg: " + " ".join(text.split()), style="red", markup=False)
