"""Ctrl-C that waits: noted inside, raised at a check, at leaving, or at the second press."""

# ruff: noqa: PT012  (the block is what is interrupted)

from __future__ import annotations

import os
import signal
import threading

import pytest

from kseg.interrupts import DeferredInterrupt


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_it_is_raised_at_a_check_and_the_handler_comes_back():
    before = signal.getsignal(signal.SIGINT)
    steps = []
    with pytest.raises(KeyboardInterrupt), DeferredInterrupt() as interrupt:
        press()
        steps.append("the step that was under way")
        interrupt.check()
        steps.append("never")
    assert steps == ["the step that was under way"]
    assert signal.getsignal(signal.SIGINT) is before


def test_it_is_raised_at_leaving_when_nothing_checks():
    done = False
    with pytest.raises(KeyboardInterrupt), DeferredInterrupt():
        press()
        done = True
    assert done


def test_a_second_press_acts_at_once():
    done = False
    with pytest.raises(KeyboardInterrupt), DeferredInterrupt():
        press()
        press()
        done = True
    assert not done


def test_an_error_is_not_hidden_by_a_press():
    with pytest.raises(ZeroDivisionError), DeferredInterrupt():
        press()
        raise ZeroDivisionError


def test_outside_the_main_thread_it_does_nothing():
    failed: list[BaseException] = []

    def work() -> None:
        try:
            with DeferredInterrupt() as interrupt:
                interrupt.check()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failed == []
