"""A folder has one writer, and none when that one is dead."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kseg.errors import UsageError
from kseg.locks import FILE, FolderLock, is_unused

HOLD = (
    "import sys, time; from kseg.locks import FolderLock; "
    "FolderLock(sys.argv[1]).take(); print(1, flush=True)"
)


def holder(folder: Path, code: str) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"1\n"
    return process


def test_a_second_lock_is_refused_by_folder_process_and_machine(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    assert first.take()
    assert first.take()
    with pytest.raises(UsageError) as caught:
        second.take()
    for part in (str(tmp_path), f"process {os.getpid()}", platform.node(), "--out"):
        assert part in str(caught.value)
    first.drop()
    assert second.take()
    second.drop()


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    process = holder(tmp_path, HOLD + "; time.sleep(600)")
    mine = FolderLock(tmp_path)
    try:
        with pytest.raises(UsageError, match=f"process {process.pid} on"):
            mine.take()
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert mine.take()
    mine.drop()


def test_a_child_that_outlives_its_parent_does_not_hold_the_lock(tmp_path: Path) -> None:
    process = holder(
        tmp_path, HOLD + "; import subprocess; subprocess.Popen(['sleep', '20'], close_fds=False, stdout=-3)"
    )
    process.communicate()
    mine = FolderLock(tmp_path)
    assert mine.take()
    mine.drop()


def test_where_there_are_no_locks_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert not FolderLock(tmp_path).take()


def test_a_folder_with_a_lock_only_is_unused(tmp_path: Path) -> None:
    assert is_unused(tmp_path)
    (tmp_path / FILE).touch()
    assert is_unused(tmp_path)
    (tmp_path / "notes.txt").touch()
    assert not is_unused(tmp_path)
