"""Shared: uses run, close waits for them, later ones are refused."""

from __future__ import annotations

import threading

import pytest

from kseg.errors import UsageError
from kseg.sharing import Shared

WAIT = 20.0


@pytest.mark.parametrize(("exclusive", "together"), [(True, 1), (False, 2)])
def test_how_many_run_at_once(exclusive, together):
    shared = Shared("thing", exclusive=exclusive)
    inside, seen, go = [], [], threading.Barrier(2)

    def work():
        go.wait(WAIT)
        with shared.use():
            inside.append(1)
            # Gives the other thread time to come in, if it may.
            threading.Event().wait(0.2)
            seen.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert max(seen) == together


def test_close_waits_for_the_running_use_and_frees_once():
    shared = Shared("thing")
    entered, leave, freed = threading.Event(), threading.Event(), []

    def work():
        with shared.use():
            entered.set()
            leave.wait(WAIT)
            assert not freed

    worker = threading.Thread(target=work)
    worker.start()
    entered.wait(WAIT)
    closer = threading.Thread(target=shared.close, args=(lambda: freed.append(1),))
    closer.start()
    closer.join(0.2)
    assert closer.is_alive()
    with pytest.raises(UsageError, match="'thing' was closed"), shared.use():
        pass
    leave.set()
    worker.join(WAIT)
    closer.join(WAIT)
    shared.close(lambda: freed.append(2))
    assert freed == [1]


def test_a_thread_in_line_is_refused_when_closed():
    shared = Shared("thing", exclusive=True)
    entered, leave, refused = threading.Event(), threading.Event(), []

    def first():
        with shared.use():
            entered.set()
            leave.wait(WAIT)

    def second():
        try:
            with shared.use():
                raise AssertionError("came in after close")
        except UsageError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    entered.wait(WAIT)
    threads[1].start()
    threads.append(threading.Thread(target=shared.close, args=(lambda: None,)))
    threads[2].start()
    threads[1].join(WAIT)
    assert refused
    leave.set()
    for thread in threads:
        thread.join(WAIT)


def test_a_use_that_fails_lets_go():
    shared = Shared("thing", exclusive=True)
    with pytest.raises(ValueError, match="no"), shared.use():
        raise ValueError("no")
    with shared.use():
        pass
