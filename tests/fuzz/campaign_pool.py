"""Workers that run cases under watch: a hang, a crash or a memory blow-up is a result, and others go on.

A worker is a process of its own (spawned, so that it shares nothing). One thread of the campaign stands
beside each, gives it cases one at a time and looks at its memory and clock meanwhile.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import itertools
import multiprocessing
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
from cases import Kind, Place, Skipped, WrongResult

from deploy.worker import peak_bytes

GIB = 2**30
# A worker is replaced after so many cases, before what libraries keep adds up.
CASES_OF_A_WORKER = 500
# Dropping Keras' graphs collects garbage, which costs more than most cases.
_FORGET = 50
_LOOK = 0.05
_START = 300.0
# Other programs slow the clock, not the processor's time: what used little of that may take longer.
_CLOCK = 3
_spawn = multiprocessing.get_context("spawn")

READ, REFUSED, INTERNAL, HANG, MEMORY, WRONG, SKIPPED = (
    "read",
    "refused",
    "internal",
    "hang",
    "memory",
    "wrong",
    "skipped",
)
FAULTS = (INTERNAL, HANG, MEMORY, WRONG)


@dataclass(frozen=True)
class Case:
    kind: str
    number: int


@dataclass(frozen=True)
class Result:
    """What came of a case; `detail` says more where that is a fault, `content` what was spoiled."""

    case: Case
    status: str
    detail: str = ""
    seconds: float = 0.0
    content: bytes = b""


def _try(kind: Kind, bad: bytes, place: Place) -> tuple[str, str]:
    try:
        return kind.run(bad, place), ""
    except Skipped as error:
        return SKIPPED, str(error)
    except WrongResult as error:
        return WRONG, str(error)
    except BaseException:
        return INTERNAL, traceback.format_exc()[-4000:]


def _serve(talk: Connection, kinds: Callable[[], dict[str, Kind]], folder: Path, seeds: Path | None) -> None:
    """The worker's side: answer cases until there are none."""
    import mutators

    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.enable(sys.stderr)
    os.environ["KSEG_CACHE"] = str(folder / "cache")
    os.chdir(folder)
    known = kinds()
    good = mutators.members(seeds.read_bytes()) if seeds else {}
    places: dict[str, Place] = {}
    ran = 0
    talk.send("ready")
    while (case := talk.recv()) is not None:
        kind = known[case.kind]
        if case.kind not in places:
            place = folder / f"{sorted(known).index(case.kind):02}"
            place.mkdir()
            places[case.kind] = Place(place, good)
        bad = kind.make(good, case.number)
        # It is there also if this process is not, in a moment.
        (folder / "input").write_bytes(bad)
        os.chdir(places[case.kind].folder)
        talk.send("start")
        start = time.perf_counter()
        status, detail = _try(kind, bad, places[case.kind])
        talk.send((status, detail, time.perf_counter() - start, peak_bytes()))
        ran += 1
        if ran % _FORGET == 0:
            _forget()


def _forget() -> None:
    """Drop Keras' names and graphs, if Keras was used."""
    if "keras" in sys.modules:
        import keras

        keras.backend.clear_session()


class _Worker:
    """One process, and what is known of it."""

    def __init__(self, number: int, pool: Pool) -> None:
        self.folder = pool.folder / f"worker-{number}"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.talk, other = _spawn.Pipe()
        self.process = _spawn.Process(target=_serve, args=(other, pool.kinds, self.folder, pool.seeds))
        self.process.start()
        other.close()
        if not self.talk.poll(_START) or self.talk.recv() != "ready":
            self.end()
            raise RuntimeError(f"A worker did not start: {self.log()}")
        self.watch = psutil.Process(self.process.pid)
        # What the libraries take when they are first used is the base, not the case's.
        self.base = self.watch.memory_info().rss
        self.cases = 0

    def log(self) -> str:
        path = self.folder / "log.txt"
        return path.read_text(errors="replace")[-4000:] if path.is_file() else ""

    def end(self) -> None:
        """Kill it and what it started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        self.process.kill()
        self.process.join()
        self.talk.close()

    def run(self, case: Case, seconds: float, memory: int) -> tuple[Result, bool]:
        """Run one case; return its result and whether the worker is still of use."""
        self.cases += 1
        self.talk.send(case)
        try:
            self.talk.recv()
            used, start = sum(self.watch.cpu_times()[:2]), time.monotonic()
            while not self.talk.poll(_LOOK):
                passed = time.monotonic() - start
                grown = self.watch.memory_info().rss - self.base
                if grown > memory:
                    return Result(case, MEMORY, f"{grown / GIB:.1f} GiB above the base", passed), False
                busy = sum(self.watch.cpu_times()[:2]) - used
                if busy > seconds or passed > _CLOCK * seconds:
                    said = f"{passed:.0f} s by the clock, {busy:.0f} s of processor time"
                    return Result(case, HANG, said, passed), False
            status, detail, took, peak = self.talk.recv()
        except (EOFError, ConnectionError, psutil.NoSuchProcess):
            self.process.join(10)
            said = f"the process ended with {self.process.exitcode}: {self.log()}"
            return Result(case, INTERNAL, said), False
        grown = peak - self.base
        if grown > memory:
            return Result(case, MEMORY, f"{grown / GIB:.1f} GiB above the base", took), False
        return Result(case, status, detail, took), True


class Pool:
    """Runs cases in `count` workers.

    Args:
        kinds: gives the kinds by name; a function of a module, as workers call it too.
        folder: for the workers' files.
        seeds: zip of the good files, or None.
        memory: bytes above its start that a worker may take.
        count: workers at once.
    """

    def __init__(
        self,
        kinds: Callable[[], dict[str, Kind]],
        folder: Path,
        seeds: Path | None = None,
        memory: int = 2 * GIB,
        count: int = 2,
    ) -> None:
        self.kinds, self.folder, self.seeds, self.memory, self.count = kinds, folder, seeds, memory, count
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._failure: BaseException | None = None

    def run(self, cases: Sequence[Case], done: Callable[[Result], Any], seconds: float | None = None) -> None:
        """Give each result to `done`, one at a time, until no case is left or `seconds` have passed."""
        end = None if seconds is None else time.monotonic() + seconds
        waiting = iter(cases)
        threads = [
            threading.Thread(target=self._guarded, args=(waiting, done, end)) for _ in range(self.count)
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        finally:
            self._stop.set()  # Ctrl-C: the cases that run are the last
        if self._failure is not None:
            raise self._failure

    def _guarded(self, waiting: Iterable[Case], done: Callable[[Result], Any], end: float | None) -> None:
        try:
            self._beside(iter(waiting), done, end)
        except BaseException as error:
            self._failure = error

    def _beside(self, waiting: Any, done: Callable[[Result], Any], end: float | None) -> None:
        worker: _Worker | None = None
        known = self.kinds()
        try:
            while True:
                with self._lock:
                    case = next(waiting, None)
                if case is None or self._stop.is_set() or (end is not None and time.monotonic() > end):
                    return
                if worker is None:
                    worker = _Worker(next(self._numbers), self)
                result, usable = worker.run(case, known[case.kind].seconds, self.memory)
                if result.status in FAULTS:
                    content = (worker.folder / "input").read_bytes()
                    result = dataclasses.replace(result, content=content)
                with self._lock:
                    done(result)
                if not usable or worker.cases >= CASES_OF_A_WORKER:
                    worker.end()
                    worker = None
        finally:
            if worker is not None:
                worker.end()
