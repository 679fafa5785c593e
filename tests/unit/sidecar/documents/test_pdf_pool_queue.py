from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.documents import pdf_pool
from sidecar.documents.pdf_pool import PdfQueue, PdfTurn
from sidecar.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Now:
    """A loop whose time is what a test says; what it is to call later is called by `to`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: list[tuple[float, Any]] = []
        self.time = 1000.0

    def to(self, moment: float) -> None:
        self.time = 1000.0 + moment
        due = [call for when, call in self._calls if when <= self.time]
        self._calls = [(when, call) for when, call in self._calls if when > self.time]
        for call in due:
            call()

    def call_at(self, when: float, call: Any) -> Any:
        entry = (when, call)
        self._calls.append(entry)

        class Handle:
            def cancel(_self) -> None:  # noqa: N805 (the outer self is needed)
                if entry in self._calls:
                    self._calls.remove(entry)

        return Handle()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return what calls a test's work with slots and their time."""

    def within(work: Callable[[PdfQueue, Now], None], **options: Any) -> None:
        async def begin() -> None:
            loop = asyncio.get_running_loop()
            now = Now(loop)
            monkeypatch.setattr(loop, "time", lambda: now.time)
            monkeypatch.setattr(loop, "call_at", now.call_at)
            try:
                work(PdfQueue(2, **{"max_waiting": 16, **options}), now)
            finally:
                monkeypatch.undo()

        asyncio.run(begin())

    return within


def joined(made: PdfQueue, *sizes: int) -> list[PdfTurn]:
    return [made.join(size) for size in sizes]


def granted(every: Sequence[PdfTurn]) -> list[int]:
    """Return which are read, whose processes are ready from now on."""
    found = [number for number, slot in enumerate(every) if slot.granted.done()]
    for number in found:
        every[number].ready()
    return found


def over(every: Sequence[PdfTurn]) -> list[int]:
    return [number for number, slot in enumerate(every) if slot.over.done()]


def test_three_are_read_and_the_youngest_goes_back_when_its_turn_is_over(
    run: Callable[..., Any],
) -> None:
    def work(made: PdfQueue, now: Now) -> None:
        every = joined(made, 0, 0, 0, 0)
        assert granted(every) == [0, 1, 2]
        now.to(0.9)
        assert over(every) == []
        now.to(1.0)
        assert over(every) == [2]
        every[2].go_back()
        assert granted(every) == [0, 1, 3]
        every[3].leave()
        assert not every[2].granted.done()  # what was begun once waits for one of the two
        every[0].leave()
        assert every[2].granted.done()

    run(work)


def test_nobody_goes_back_while_nobody_waits_and_at_once_when_one_comes(
    run: Callable[..., Any],
) -> None:
    def work(made: PdfQueue, now: Now) -> None:
        every = joined(made, 0, 0, 0)
        assert granted(every) == [0, 1, 2]
        now.to(7)
        assert over(every) == []
        every += joined(made, 0)
        assert over(every) == [2]

    run(work)


def test_a_turn_begins_when_the_process_is_ready(run: Callable[..., Any]) -> None:
    def work(made: PdfQueue, now: Now) -> None:
        every = joined(made, 0, 0, 0, 0)
        now.to(5)
        made.arrange()
        assert over(every) == []
        assert granted(every) == [0, 1, 2]
        now.to(6)
        assert over(every) == [2]

    run(work)


def test_a_small_one_goes_ahead_of_large_ones_that_came_a_little_earlier(
    run: Callable[..., Any],
) -> None:
    def work(made: PdfQueue, now: Now) -> None:
        reading = joined(made, 0, 0, 0)
        granted(reading)
        large = joined(made, 20 << 20, 83_000)
        now.to(0.5)
        small = made.join(600)
        now.to(1)
        reading[2].leave()
        assert small.granted.done()
        small.leave()
        assert granted(large) == [1]

    run(work)


def test_a_large_one_is_not_kept_waiting_by_small_ones_for_ever(run: Callable[..., Any]) -> None:
    def work(made: PdfQueue, now: Now) -> None:
        reading = joined(made, 0, 0, 0)
        large = made.join(20 << 20)
        for second in range(1, 30):
            now.to(second)
            next_one = made.join(0)
            reading.pop(0).leave()
            if large.granted.done():
                break
            reading.append(next_one)
        assert second == pdf_pool.LONGEST_HEAD_START_S

    run(work)


def test_long_ones_are_begun_again_though_new_ones_keep_coming(run: Callable[..., Any]) -> None:
    def work(made: PdfQueue, now: Now) -> None:
        slow = joined(made, 0, 0, 0)
        granted(slow)
        now.to(2)
        new = made.join(0)
        assert over(slow) == [2]
        slow[2].go_back()
        for second in range(3, 10):  # every one of the new is slow, too
            new.ready()
            now.to(second)
            newer = made.join(0)
            now.to(second + 0.99)
            if new.over.done():
                new.go_back()
            new = newer
        assert not slow[2].granted.done()
        slow[0].leave()
        assert slow[2].granted.done()  # before all that came later

    run(work)


def test_with_many_that_wait_turns_are_shorter(run: Callable[..., Any]) -> None:
    def work(made: PdfQueue, now: Now) -> None:
        every = joined(made, *[0] * 19)
        granted(every)
        now.to(0.49)
        assert over(every) == []
        now.to(0.5)
        assert over(every) == [2]

    run(work, round_s=8.0)


def test_as_many_wait_as_may_and_the_next_is_told_when_to_come(run: Callable[..., Any]) -> None:
    def work(made: PdfQueue, now: Now) -> None:
        every = joined(made, *[0] * 7)
        granted(every)
        now.to(6)
        with pytest.raises(Problem) as caught:
            made.join(0)
        assert (caught.value.status, caught.value.kind) == (429, "busy")
        assert caught.value.retry_s == 15  # 5 of 6 s, two at a time
        every[3].leave()
        made.join(0)

    run(work, max_waiting=4)


def test_long_ones_that_wait_do_not_keep_new_ones_out_but_each_other(
    run: Callable[..., Any],
) -> None:
    def work(made: PdfQueue, now: Now) -> None:
        every = joined(made, 0, 0, 0)
        for second in range(1, 4):
            granted(every)
            now.to(2 * second)
            every += joined(made, 0)
            assert over(every) == [second + 1]
            if second < 3:
                every[second + 1].go_back()
        with pytest.raises(Problem) as caught:
            every[4].go_back()
        assert caught.value.kind == "busy"
        every[4].leave()
        assert every[5].granted.done()

    run(work, max_waiting=2)


def test_quick_ones_that_were_read_make_the_time_to_come_shorter(run: Callable[..., Any]) -> None:
    def work(made: PdfQueue, now: Now) -> None:
        for _ in range(20):
            slot = made.join(0)
            slot.ready()
            slot.leave()
        every = joined(made, *[0] * 7)
        granted(every)
        now.to(0.1)
        with pytest.raises(Problem) as caught:
            made.require_room()
        assert caught.value.retry_s == 1

    run(work, max_waiting=4)


@pytest.mark.parametrize("number", [0, 5])
def test_who_leaves_gives_the_place_to_the_next_at_once(
    run: Callable[..., Any], number: int
) -> None:
    def work(made: PdfQueue, _now: Now) -> None:
        every = joined(made, *[0] * 6)
        every[number].granted.cancel()
        every[number].leave()
        assert len(made._waiting) == 2
        assert every[3].granted.done() is (number == 0)

    run(work)


def test_one_that_was_cancelled_and_has_not_left_yet_harms_nobody(run: Callable[..., Any]) -> None:
    def work(made: PdfQueue, _now: Now) -> None:
        every = joined(made, *[0] * 5)
        every[3].granted.cancel()
        every[0].leave()
        every[3].leave()
        assert every[4].granted.done()
        assert len(made._waiting) == 0

    run(work)
