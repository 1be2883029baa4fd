"""Converters' chatter: gone when all is well, shown when something unexplained fails."""

from __future__ import annotations

import os

import pytest

from deploy.quiet import quiet
from kseg.errors import ArtefactError


def chatter(error: Exception | None = None):
    print("from Python")
    os.write(1, b"from C++ on stdout\n")
    os.write(2, b"from C++ on stderr\n")
    if error is not None:
        raise error


def test_nothing_reaches_the_terminal(capfd):
    with quiet():
        chatter()
    print("after")
    assert capfd.readouterr() == ("after\n", "")


def test_an_unexplained_failure_shows_it(capfd):
    with pytest.raises(RuntimeError), quiet():
        chatter(RuntimeError())
    captured = capfd.readouterr()
    assert captured.out == ""
    for text in ("from Python", "from C++ on stdout", "from C++ on stderr"):
        assert text in captured.err


def test_an_explained_error_stays_one_line(capfd):
    with pytest.raises(ArtefactError), quiet():
        chatter(ArtefactError("no"))
    assert capfd.readouterr() == ("", "")


def test_debug_sends_all_of_it_to_stderr(capfd, monkeypatch):
    monkeypatch.setenv("KSEG_DEBUG", "1")
    with quiet():
        chatter()
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "from Python" in captured.err
    assert "from C++ on stdout" in captured.err
