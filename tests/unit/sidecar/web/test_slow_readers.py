from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from sidecar.metrics import Counts
from sidecar.process.clock import Clock
from sidecar.settings import Bounds
from sidecar.web.slow_readers import ResponseWriter, SlowReaders

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


def watched(
    senders: Any = None, *, unwritten: Callable[[], int] = lambda: 0
) -> tuple[ResponseWriter, Transport]:
    class Nothing:
        def watch(self, sender: ResponseWriter) -> None:
            del sender

    transport = Transport()
    return ResponseWriter(
        senders or cast("SlowReaders", Nothing()), cast("Any", transport), unwritten
    ), transport


@pytest.mark.parametrize(
    ("size", "taken", "is_slow"),
    [(5000, 499, True), (5000, 500, False), (300, 99, True), (300, 100, False), (60, 59, True)],
)
def test_a_window_asks_for_a_part_of_a_large_answer_and_for_a_least_of_any(
    size: int, taken: int, *, is_slow: bool
) -> None:
    sender, transport = watched()
    sender.write(bytes(size))
    transport.kept -= taken
    assert not sender.is_slow(9.0, BOUNDS)
    assert sender.is_slow(1.0, BOUNDS) is is_slow


def test_a_part_is_one_of_the_whole_answer_to_its_end() -> None:
    sender, transport = watched()
    sender.write(bytes(5000))
    for _ in range(9):
        transport.kept -= 500
        assert not sender.is_slow(10.0, BOUNDS)
    transport.kept -= 499
    assert sender.is_slow(10.0, BOUNDS)


def test_a_client_that_waits_for_the_service_is_never_slow() -> None:
    sender, transport = watched()
    for _ in range(5):
        sender.write(bytes(300))
        assert not sender.is_slow(9.0, BOUNDS)
        transport.kept = 0  # it took all, and the next line took us long


def test_what_is_written_meanwhile_counts_as_not_taken() -> None:
    sender, transport = watched()
    sender.write(bytes(300))
    transport.kept -= 99
    sender.write(bytes(1000))
    assert sender.is_slow(10.0, BOUNDS)


def test_an_answer_that_is_written_in_parts_is_one_answer() -> None:
    left = [4000]
    sender, transport = watched(unwritten=lambda: left[0])
    sender.write(bytes(1000))
    transport.kept = 0
    left[0] = 3000
    sender.write(bytes(1000))
    assert not sender.is_slow(10.0, BOUNDS)  # it took 1000 of 5000
    transport.kept -= 499
    assert sender.is_slow(10.0, BOUNDS)


@pytest.fixture
def run() -> Callable[..., Any]:
    def within(work: Callable[[SlowReaders, Counts], Any], bounds: Bounds) -> Any:
        async def begin() -> Any:
            counts = Counts()
            clock = Clock()
            clock.run()
            return await work(SlowReaders(bounds, counts, clock), counts)

        return asyncio.run(begin())

    return within


def test_who_takes_too_little_is_ended_counted_and_told_in_one_line(
    run: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def work(senders: SlowReaders, counts: Counts) -> None:
        slow = [watched(senders) for _ in range(3)]
        for sender, _ in slow:
            sender.write(b"secret" * 100)
        assert senders.unsent() == 1800
        await until(lambda: counts.slow_readers == 3)
        assert all(transport.is_aborted for _, transport in slow)
        assert senders.unsent() == 0

    with caplog.at_level(logging.INFO, logger="sidecar"):
        run(work, Bounds(window_s=0.1))
    (line,) = [record.getMessage() for record in caplog.records]
    assert "3" in line
    assert "1800 bytes" in line
    assert "secret" not in line


def test_time_in_which_the_service_did_not_run_ends_nobody(run: Callable[..., Any]) -> None:
    async def work(senders: SlowReaders, counts: Counts) -> None:
        sender, transport = watched(senders)
        sender.write(bytes(600))
        await asyncio.sleep(0)
        time.sleep(1.5)  # noqa: ASYNC251 - as a stop of the whole process does
        await asyncio.sleep(0.1)
        assert not transport.is_aborted
        assert counts.slow_readers == 0
        await until(lambda: transport.is_aborted)

    run(work, Bounds(window_s=1.0))


async def until(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not claim():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
