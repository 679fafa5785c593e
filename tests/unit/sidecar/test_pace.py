from __future__ import annotations

import pytest

from sidecar.pace import FIRST_GUESS_S, MAX_TOKENS, MIN_TOKENS, Pace


def test_the_first_measurement_replaces_the_guess() -> None:
    pace = Pace()
    assert pace.seconds_per_token == FIRST_GUESS_S
    pace.observe(100, 1.0)
    assert pace.seconds_per_token == pytest.approx(0.01)


def test_sizes_follow_the_speed() -> None:
    pace = Pace()
    for _ in range(30):
        pace.observe(1000, 0.1)
    assert pace.tokens_for(0.12) == pytest.approx(1200, abs=1)
    for _ in range(30):
        pace.observe(1000, 0.4)
    assert pace.tokens_for(0.12) == pytest.approx(300, abs=2)


def test_sizes_have_a_floor_and_a_ceiling() -> None:
    slow, fast = Pace(), Pace()
    slow.observe(10, 10.0)
    fast.observe(10_000, 0.001)
    assert slow.tokens_for(0.12) == MIN_TOKENS
    assert fast.tokens_for(0.12) == MAX_TOKENS


def test_small_batches_with_their_fixed_cost_weigh_little() -> None:
    pace = Pace()
    for _ in range(20):
        pace.observe(1000, 0.1)
        pace.observe(10, 0.01)
    assert pace.seconds_per_token == pytest.approx(1e-4, rel=0.15)


def test_a_machine_that_slept_in_a_batch_is_not_taken_for_slow() -> None:
    pace = Pace()
    for _ in range(20):
        pace.observe(1000, 0.1)
    pace.observe(1000, 3600.0)
    assert pace.seconds_per_token < 4e-4


@pytest.mark.parametrize(("tokens", "seconds"), [(0, 1.0), (5, 0.0), (5, -1.0)])
def test_what_measures_nothing_teaches_nothing(tokens: int, seconds: float) -> None:
    pace = Pace()
    pace.observe(tokens, seconds)
    assert pace.seconds_per_token == FIRST_GUESS_S
