"""How far a command is, on a terminal, in a log and with -q."""

import io
import sys
import time

import pytest

from rsunfold.cli import messages
from rsunfold.cli.running import watched
from rsunfold.progress import tracked


class Terminal(io.StringIO):
    """Standard error of a person."""

    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def loud(monkeypatch):
    monkeypatch.setattr(messages, "_level", 0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")


def said(monkeypatch, stream, run):
    monkeypatch.setattr(sys, "stderr", stream)
    with watched("a[0].tif"):
        run()
    return stream.getvalue()


def test_a_terminal_gets_a_bar_and_the_messages_above_it(monkeypatch, capsys):
    def run():
        for k in tracked(range(4), "computing"):
            if k == 2:
                messages.say("half")
                print("result")
                time.sleep(0.3)  # longer than the bar waits before it is drawn again

    text = said(monkeypatch, Terminal(), run)
    assert "a[0].tif: computing" in text and "50%" in text and "half" in text and "result" not in text
    assert capsys.readouterr().out == "result\n"


def test_a_single_step_has_no_share(monkeypatch):
    text = said(monkeypatch, Terminal(), lambda: [time.sleep(0.3) for _ in tracked(range(1), "computing")])
    assert "a[0].tif: computing" in text and "0%" not in text and "left" not in text


def test_the_bar_does_not_stay_full_when_what_follows_has_no_steps(monkeypatch):
    def run():
        list(tracked(range(3), "reading"))
        time.sleep(0.3)

    last = said(monkeypatch, Terminal(), run).rpartition("a[0].tif")[2]
    assert "gone" in last and "reading" not in last and "%" not in last


def test_a_log_gets_a_line_a_minute(monkeypatch):
    now = iter(range(0, 2000, 25))
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    text = said(monkeypatch, io.StringIO(), lambda: list(tracked(range(9), "computing")))
    assert text.splitlines() == [f"a[0].tif: computing, {n} of 9" for n in (2, 5, 8)]


def test_who_wants_silence_gets_it(monkeypatch):
    monkeypatch.setattr(messages, "_level", -1)
    assert said(monkeypatch, Terminal(), lambda: list(tracked(range(9), "computing"))) == ""


def test_a_closed_stream_is_no_error(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    with watched("a.tif"):
        assert list(tracked(range(2), "computing")) == [0, 1]
    messages.say("to nobody")
    messages.report("to nobody")
    monkeypatch.setattr(sys, "stdout", None)
    messages.show("to nobody")


def test_a_dumb_terminal_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    now = iter(range(0, 2000, 40))
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    assert "computing, " in said(monkeypatch, Terminal(), lambda: list(tracked(range(9), "computing")))
