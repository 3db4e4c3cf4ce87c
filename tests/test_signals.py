"""Signals wait for the end of a block, and come then."""

import signal
import threading

import pytest

from rsunfold.signals import deferred


class Came(Exception):
    pass


@pytest.fixture(autouse=True)
def handlers():
    """Signals that raise Came, with their number; as before afterwards."""

    def come(number, frame):
        raise Came(number)

    before = {n: signal.signal(n, come) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield come
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("once", [False, True])
def test_the_first_signal_comes_at_the_end(handlers, once):
    with pytest.raises(Came, match=str(int(signal.SIGTERM))), deferred("SIGINT", "SIGTERM", once=once) as came:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert came == [signal.SIGTERM, signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is signal.getsignal(signal.SIGTERM) is handlers


@pytest.mark.parametrize("once", [False, True])
def test_only_with_once_a_second_signal_does_not_wait(handlers, once):
    reached = []
    with pytest.raises(Came), deferred("SIGINT", once=once):
        for n in range(3):
            signal.raise_signal(signal.SIGINT)
            reached.append(n)
    assert reached == ([0] if once else [0, 1, 2])
    assert signal.getsignal(signal.SIGINT) is handlers


@pytest.mark.parametrize(("once", "error"), [(False, Came), (True, ValueError)])
def test_after_a_failure_none_comes_with_once(handlers, once, error):
    with pytest.raises(error), deferred("SIGINT", once=once):
        signal.raise_signal(signal.SIGINT)
        raise ValueError
    assert signal.getsignal(signal.SIGINT) is handlers


def test_signals_that_are_not_named_or_not_there_do_not_wait():
    with pytest.raises(Came), deferred("SIGINT", "SIGOFWINDOWS"):
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("it waited")


def test_what_is_ignored_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with deferred("SIGHUP") as came:
        signal.raise_signal(signal.SIGHUP)
    assert came == [] and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_other_threads_change_nothing(handlers):
    inside = []

    def block():
        with deferred("SIGINT"):
            inside.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert inside == [handlers]
