"""The folder of a run: what a phase made is written whole, and taken from there when the run goes on."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from kseg.errors import UsageError
from kseg.instance.sds.config import SDSConfig
from kseg.interrupts import Interrupted
from kseg.locks import FolderLock, is_unused
from kseg.progress import Say
from kseg.training import record

FOLDER = "phases"
# May differ in a run that goes on.
_PLACES = ("data", "out", "resume")

T = TypeVar("T")


class Phases:
    """A run folder, locked while the block lasts.

    Args:
        config: the arguments.
        about: what `run.json` says of the data.
        say: takes a line about each phase that is taken from disk.

    Raises:
        UsageError: if the folder is in use, is not empty, or was begun with other arguments.
        Interrupted: on Ctrl-C; its message says how to go on.
    """

    def __init__(self, config: SDSConfig, about: dict[str, Any], say: Say) -> None:
        self.run = Path(config.out)
        self.folder = self.run / FOLDER
        self.say = say
        self._lock = FolderLock(self.run)
        before = _before(self.run, config)
        self._info: dict[str, Any] = {
            "status": "running",
            "started": before.get("started", record.now()),
            "arguments": config.to_dict(),
            "data": about,
            "versions": record.versions(),
            "machine": record.machine(),
            "phases": before.get("phases", {}),
        }

    def __enter__(self) -> Phases:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._lock.take():
            self.say(f"{self.run} cannot be locked on this file system: start no second training in it")
        record.write(self.run, self._info)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._info |= {"status": "interrupted", "ended": record.now()}
            record.write(self.run, self._info)
        self._lock.drop()
        if kind is KeyboardInterrupt:
            done = ", ".join(self._info["phases"]) or "nothing"
            raise Interrupted(
                f"interrupted with {done} done; go on with: kseg train-sds --resume --out {self.run}"
            ) from error

    def kept(
        self,
        name: str,
        make: Callable[[], tuple[T, dict[str, Any]]],
        write: Callable[[Path, T], object],
        read: Callable[[Path], T],
        suffix: str,
    ) -> T:
        """Return what a phase makes, from its file where the phase is done.

        Args:
            name: of the phase and its file.
            make: gives the thing, and what `run.json` says of it.
            write, read: the file.
            suffix: of the file.
        """
        path = self.folder / f"{name}{suffix}"
        if name in self._info["phases"] and path.is_file():
            self.say(f"{name}: done before")
            return read(path)
        start = time.perf_counter()
        made, said = make()
        write(path, made)
        self.done(name, start, said)
        return made

    def done(self, name: str, start: float, said: dict[str, Any]) -> None:
        """Write down that a phase is done, which began at `start` (`time.perf_counter`)."""
        self._info["phases"][name] = {**said, "seconds": round(time.perf_counter() - start, 1)}
        record.write(self.run, self._info)

    def finish(self) -> dict[str, Any]:
        """Write `history.csv`, drop what only a run that goes on needs; return what the phases said."""
        phases: dict[str, Any] = self._info["phases"]
        record.write_history(self.run, _epochs(phases))
        shutil.rmtree(self.folder)
        self._info |= {"status": "finished", "ended": record.now()}
        record.write(self.run, self._info)
        return phases


def _epochs(phases: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each epoch of the networks that were tuned, one after the other, counted through."""
    rows: list[dict[str, Any]] = []
    for name, said in phases.items():
        for loss, accuracy in zip(said.get("loss", ()), said.get("accuracy", ()), strict=True):
            rows.append({"epoch": len(rows) + 1, "network": name, "loss": loss, "accuracy": accuracy})
    return rows


def _before(run: Path, config: SDSConfig) -> dict[str, Any]:
    """Return the record of a run that goes on, else nothing; refuse a folder that is in use."""
    if run.exists() and not run.is_dir():
        raise UsageError(f"Argument `out` must be a folder. '{run}' is a file")
    if not run.is_dir() or is_unused(run):
        if config.resume:
            raise UsageError(f"There is nothing to resume in '{run}'")
        return {}
    before = record.read(run)
    if not config.resume or before is None:
        hint = "continue it with --resume, or give" if before else "give"
        raise UsageError(f"The run folder '{run}' is not empty: {hint} another --out")
    own, given = config.to_dict(), before["arguments"]
    # A run of before there was an argument has its default.
    before_it = {name: getattr(SDSConfig, name, None) for name in own}
    changed = [name for name in own if name not in _PLACES and {**before_it, **given}[name] != own[name]]
    if changed:
        raise UsageError(
            f"The run in '{run}' was started with another {', '.join(changed)}. Resume it with the arguments "
            "it has, or give another --out"
        )
    if before.get("status") == "finished":
        raise UsageError(f"The run in '{run}' is finished: nothing is left to resume")
    return before
