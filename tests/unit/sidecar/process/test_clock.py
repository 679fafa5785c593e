from __future__ import annotations

import asyncio
import time

import pytest

from sidecar.process import clock
from sidecar.process.clock import AWAY_S, GRACE_S, STEP_S, Clock


class Hands:
    """A clock that is put where a test wants it."""

    def __init__(self) -> None:
        self.now = 1024.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def made(hands: Hands) -> Clock:
    return Clock(now=hands)


def test_seconds_count_while_the_loop_turns(hands: Hands, made: Clock) -> None:
    for _ in range(40):
        hands.now += 0.25
        made.tick()
    assert made.time() == made.tick() == 10.0
    hands.now += 0.25
    assert made.time() == 10.25
    assert made.absences == 0


@pytest.mark.parametrize("away_s", [AWAY_S + 0.1, 70.0, 1e6])
def test_a_suspension_counts_one_step_and_is_noted(
    hands: Hands, made: Clock, away_s: float
) -> None:
    hands.now += away_s
    assert made.time() == STEP_S
    assert made.tick() == STEP_S
    assert made.absences == 1


def test_time_stands_still_for_a_moment_after_a_suspension(hands: Hands, made: Clock) -> None:
    hands.now += 70
    made.tick()
    hands.now += GRACE_S / 2
    assert made.tick() == made.time() == STEP_S
    hands.now += GRACE_S
    assert made.tick() == made.time() == STEP_S + GRACE_S / 2
    assert made.absences == 1


def test_a_busy_loop_is_not_a_suspension(hands: Hands, made: Clock) -> None:
    hands.now += AWAY_S
    assert made.tick() == STEP_S
    hands.now += 0.25
    assert made.tick() == STEP_S + 0.25
    assert made.absences == 0


@pytest.mark.parametrize("leap_s", [-1e6, -60.0, -0.25])
def test_a_clock_that_is_put_back_takes_no_time_back(
    hands: Hands, made: Clock, leap_s: float
) -> None:
    hands.now += 0.25
    made.tick()
    hands.now += leap_s
    assert made.time() == made.tick() == 0.25
    for _ in range(8):
        hands.now += 0.25
        made.tick()
    assert made.time() >= 0.25 + GRACE_S
    assert made.absences == 0


def test_a_call_waits_for_seconds_that_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "AWAY_S", 0.2)
    monkeypatch.setattr(clock, "STEP_S", 0.05)
    monkeypatch.setattr(clock, "GRACE_S", 0.1)

    async def run() -> float:
        made, called = Clock(), asyncio.Event()
        made.run()
        made.after(0.3, called.set)
        time.sleep(0.5)  # noqa: ASYNC251 - as a suspension does
        await asyncio.sleep(0)
        assert not called.is_set()
        await asyncio.wait_for(called.wait(), 30)
        assert made.absences >= 1  # a busy machine may take this process away, too
        return made.time()

    assert asyncio.run(run()) >= 0.3
