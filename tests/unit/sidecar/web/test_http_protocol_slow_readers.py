from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

import pytest

from sidecar.metrics import Counts
from sidecar.process.clock import Clock
from sidecar.settings import Bounds
from sidecar.web.http_protocol import Connections, ResponseWriter
from sidecar.web.middleware import AccessLog

if TYPE_CHECKING:
    from collections.abc import Callable

BOUNDS = Bounds(window_s=10.0, min_window_bytes=100, max_windows=10)


class Transport:
    """Keeps what is written until it is taken."""

    def __init__(self) -> None:
        self.kept = 0
        self.is_aborted = False

    def write(self, data: bytes) -> None:
        self.kept += len(data)

    def get_write_buffer_size(self) -> int:
        return self.kept

    def get_extra_info(self, _name: str) -> None:
        return None

    def abort(self) -> None:
        self.kept = 0
        self.is_aborted = True


class Time:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        return self.now


def watched(
    connections: Connections | None = None, *, unwritten: Callable[[], int] = lambda: 0
) -> tuple[ResponseWriter, Transport]:
    transport = Transport()
    connections = connections or Connections(BOUNDS, AccessLog(), Counts(), cast("Clock", Time()))
    return ResponseWriter(connections, cast("Any", transport), unwritten), transport


def is_slow(sender: ResponseWriter, passed_s: float) -> bool:
    """Return whether it is, once so much more time has passed."""
    cast("Time", sender._connections.clock).now += passed_s
    return sender.is_slow()


@pytest.mark.parametrize(
    ("size", "taken", "expected"),
    [(5000, 499, True), (5000, 500, False), (300, 99, True), (300, 100, False), (60, 59, True)],
)
def test_a_window_asks_for_a_part_of_a_large_answer_and_for_a_least_of_any(
    size: int, taken: int, *, expected: bool
) -> None:
    sender, transport = watched()
    sender.write(bytes(size))
    transport.kept -= taken
    assert not is_slow(sender, 9.0)
    assert is_slow(sender, 1.0) is expected


def test_a_part_is_one_of_the_whole_answer_to_its_end() -> None:
    sender, transport = watched()
    sender.write(bytes(5000))
    for _ in range(9):
        transport.kept -= 500
        assert not is_slow(sender, 10.0)
    transport.kept -= 499
    assert is_slow(sender, 10.0)


def test_a_client_that_waits_for_the_service_is_never_slow() -> None:
    sender, transport = watched()
    for _ in range(5):
        sender.write(bytes(300))
        assert not is_slow(sender, 9.0)
        transport.kept = 0  # it took all, and the next line took us long


def test_what_is_written_meanwhile_counts_as_not_taken() -> None:
    sender, transport = watched()
    sender.write(bytes(300))
    transport.kept -= 99
    sender.write(bytes(1000))
    assert is_slow(sender, 10.0)


def test_an_answer_that_is_written_in_parts_is_one_answer() -> None:
    left = [4000]
    sender, transport = watched(unwritten=lambda: left[0])
    sender.write(bytes(1000))
    transport.kept = 0
    left[0] = 3000
    sender.write(bytes(1000))
    assert not is_slow(sender, 10.0)  # it took 1000 of 5000
    transport.kept -= 499
    assert is_slow(sender, 10.0)


def test_who_takes_too_little_is_ended_counted_and_told_in_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counts, clock = Counts(), Time()
    connections = Connections(BOUNDS, AccessLog(), counts, cast("Clock", clock))
    slow = [watched(connections) for _ in range(3)]
    for sender, _ in slow:
        sender.write(b"secret" * 100)
    assert connections.unsent() == 1800
    with caplog.at_level(logging.INFO, logger="sidecar"):
        for clock.now in (9.9, 10.0):
            assert not any(transport.is_aborted for _, transport in slow)
            connections.end_slow()
    assert all(transport.is_aborted for _, transport in slow)
    assert (counts.slow_readers, connections.unsent()) == (3, 0)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "3" in line
    assert "1800 bytes" in line
    assert "secret" not in line


def test_time_in_which_the_service_did_not_run_ends_nobody() -> None:
    moment = [0.0]
    clock = Clock(now=lambda: moment[0])
    connections = Connections(BOUNDS, AccessLog(), Counts(), clock)
    sender, transport = watched(connections)
    sender.write(bytes(600))
    moment[0] += 60  # as a stop of the whole process does
    clock.tick()
    connections.end_slow()
    assert not transport.is_aborted
    for _ in range(25):
        moment[0] += 0.5
        clock.tick()
    connections.end_slow()
    assert transport.is_aborted
