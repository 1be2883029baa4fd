"""kseg.files: whole files or none."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kseg import files
from kseg.errors import ArtefactError


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_written_content_arrives_and_nothing_else_stays(tmp_path: Path) -> None:
    files.write_text(tmp_path / "new" / "a.txt", "Grüße\n")
    files.write_bytes(tmp_path / "new" / "b.bin", bytes(range(256)))
    files.write_json(tmp_path / "new" / "c.json", {"x": [1, None, "ö"]})
    assert (tmp_path / "new" / "a.txt").read_text(encoding="utf-8") == "Grüße\n"
    assert (tmp_path / "new" / "b.bin").read_bytes() == bytes(range(256))
    assert json.loads((tmp_path / "new" / "c.json").read_text(encoding="utf-8")) == {"x": [1, None, "ö"]}
    assert names(tmp_path / "new") == ["a.txt", "b.bin", "c.json"]


def test_the_temporary_keeps_the_suffix_and_the_folder(tmp_path: Path) -> None:
    with files.atomic(tmp_path / "model.keras") as temporary:
        assert temporary.suffix == ".keras"
        assert temporary.parent == tmp_path
        assert files.final_name(temporary) == files.final_name("model.keras") == "model.keras"
        temporary.write_text("x")
        assert not (tmp_path / "model.keras").exists()
    assert names(tmp_path) == ["model.keras"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_keeps_the_old_file_and_removes_the_new(
    failure: type[BaseException], tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("old")

    def write() -> None:
        with files.atomic(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(failure):
        write()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_failure_before_anything_was_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), files.atomic(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, "disk full")
    assert names(tmp_path) == []


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "old").write_text("old")
    with files.atomic(tmp_path / "set") as temporary:
        temporary.mkdir()
        (temporary / "new").write_text("new")
    assert names(tmp_path / "set") == ["new"]

    def interrupted() -> None:
        with files.atomic(tmp_path / "set") as temporary:
            temporary.mkdir()
            (temporary / "newer").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path / "set") == ["new"]
    assert names(tmp_path) == ["set"]


def test_leftovers_of_a_killed_process_go_and_those_of_a_running_one_stay(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from kseg import files\n"
        "with files.atomic(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.txt")])
    assert done.returncode == -9
    assert len(names(tmp_path)) == 1
    running = tmp_path / f".kseg-{os.getppid()}-other.txt"
    running.write_text("in work")
    files.write_text(tmp_path / "b.txt", "b")
    assert names(tmp_path) == [running.name, "b.txt"]


def test_json_refuses_nan_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["n" * 251 + ".txt", "ü" * 125 + ".json", "a." + "s" * 253, "x.txt"])
def test_the_longest_names_are_written(name: str, tmp_path: Path) -> None:
    with files.atomic(tmp_path / name) as temporary:
        assert len(os.fsencode(temporary.name)) <= max(len(os.fsencode(name)), 100)
        assert files.final_name(temporary) == name
        temporary.write_text("x")
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("name", ["m.keras", "m" * 249 + ".keras"])
def test_errors_name_the_file_that_the_user_knows(name: str, tmp_path: Path) -> None:
    def fail(make: Any) -> str:
        with pytest.raises((OSError, ValueError)) as caught, files.atomic(tmp_path / name) as temporary:
            raise make(temporary)
        return str(caught.value)

    target = str(tmp_path / name)
    told = [
        fail(lambda temporary: ArtefactError(f"'{temporary}' is damaged")),
        fail(lambda temporary: OSError(errno.ENOSPC, "disk full", str(temporary))),
        fail(lambda temporary: OSError(errno.ENOSPC, "disk full", str(temporary / "inner"))),
        fail(lambda temporary: OSError(errno.ENOSPC, "disk full")),
    ]
    for text in told:
        assert target in text
        assert ".kseg-" not in text
