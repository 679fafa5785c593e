from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.process import signals

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", end)
    return codes


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> dict[int, Callable[..., None]]:
    found: dict[int, Callable[..., None]] = {}

    def record(number: int, handle: Callable[..., None]) -> None:
        found[number] = handle

    monkeypatch.setattr(signal, "signal", record)
    return found


def test_a_stop_is_heard_at_once_whether_it_comes_before_or_after() -> None:
    stop = signals.Stop()
    heard: list[str] = []
    assert not stop.is_requested
    stop.on_request(lambda: heard.append("later"))
    assert heard == []
    stop.request()
    assert stop.is_requested
    stop.on_request(lambda: heard.append("early"))
    assert heard == ["later", "early"]
    stop.request()
    stop.wait()


def test_a_stop_that_nobody_is_there_to_hear_has_a_way_of_its_own() -> None:
    heard: list[str] = []
    stop = signals.Stop(early=lambda: heard.append("early"))
    stop.on_request(lambda: heard.append("served"))
    stop.request()
    assert heard == ["served"]
    alone = signals.Stop(early=lambda: heard.append("early"))
    alone.request()
    assert heard == ["served", "early"]


def test_the_first_signal_asks_and_the_second_ends_with_128_plus_its_number(
    handlers: dict[int, Callable[..., None]], ended: list[int]
) -> None:
    stop = signals.Stop()
    signals.install(stop)
    assert {signal.SIGINT, signal.SIGTERM} <= set(handlers)
    handlers[signal.SIGTERM](signal.SIGTERM, None)
    assert stop.is_requested
    assert ended == []
    with pytest.raises(SystemExit):
        handlers[signal.SIGINT](signal.SIGINT, None)
    assert ended == [130]


def test_a_terminal_that_is_closed_is_a_request_to_stop(
    handlers: dict[int, Callable[..., None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Under nohup the tests themselves inherit a SIGHUP that is ignored.
    monkeypatch.setattr(signal, "getsignal", lambda _number: signal.SIG_DFL)
    stop = signals.Stop()
    signals.install(stop)
    handlers[signal.SIGHUP](signal.SIGHUP, None)
    assert stop.is_requested


def test_a_hangup_that_was_turned_off_stays_off(
    handlers: dict[int, Callable[..., None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda _number: signal.SIG_IGN)
    signals.install(signals.Stop())
    assert signal.SIGHUP not in handlers
    assert handlers[signal.SIGPIPE] is signal.SIG_IGN  # type: ignore[comparison-overlap]


def test_a_first_signal_after_a_shutdown_by_request_waits_for_it(
    handlers: dict[int, Callable[..., None]], ended: list[int]
) -> None:
    stop = signals.Stop()
    signals.install(stop)
    stop.request()
    handlers[signal.SIGTERM](signal.SIGTERM, None)
    assert ended == []


def test_the_watchdog_ends_what_hangs_with_code_0(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    ended = threading.Event()

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    monkeypatch.setattr(os, "_exit", end)
    stop = signals.Stop()
    signals.watch(stop, hard_stop_s=0.01)
    assert not ended.wait(0.05)
    stop.request()
    assert ended.wait(10)
    assert codes == [0]


def test_the_hard_stop_leaves_a_margin_to_the_five_seconds() -> None:
    assert signals.HARD_STOP_S < 5


def test_ending_flushes_what_can_be_flushed_and_never_waits(
    monkeypatch: pytest.MonkeyPatch, ended: list[int]
) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    full: Any = os.fdopen(writing, "w")
    full.write("a line that finds no room")
    open_reading, open_writing = os.pipe()
    ready: Any = os.fdopen(open_writing, "w")
    ready.write("a last line")
    monkeypatch.setattr("sys.stdout", full)
    monkeypatch.setattr("sys.stderr", ready)
    with pytest.raises(SystemExit):
        signals.exit_at_once(11)
    assert ended == [11]
    assert os.read(open_reading, 100) == b"a last line"
    monkeypatch.setattr("sys.stderr", None)
    with pytest.raises(SystemExit):
        signals.exit_at_once(3)
    monkeypatch.undo()
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        full.close()
    ready.close()
    os.close(open_reading)
