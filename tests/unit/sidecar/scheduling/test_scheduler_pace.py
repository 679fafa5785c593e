from __future__ import annotations

import random

import pytest

from sidecar.scheduling.scheduler import FIRST_GUESS_S, MAX_TOKENS, MIN_TOKENS, Throughput


def learnt(*, fixed: float, per_token: float, sizes: tuple[int, ...] = (100, 1000)) -> Throughput:
    """Return a pace that has seen batches of a machine with these costs."""
    pace = Throughput()
    measure(pace, fixed=fixed, per_token=per_token, sizes=sizes)
    return pace


def measure(pace: Throughput, *, fixed: float, per_token: float, sizes: tuple[int, ...]) -> None:
    for turn in range(60):
        tokens = sizes[turn % len(sizes)]
        pace.observe(tokens, fixed + tokens * per_token)


def test_the_first_measurement_replaces_the_guess() -> None:
    pace = Throughput()
    assert pace.per_token_s == FIRST_GUESS_S
    pace.observe(100, 1.0)
    assert pace.fixed_s + 100 * pace.per_token_s == pytest.approx(1.0)


def test_the_fixed_cost_of_a_batch_is_told_from_that_of_its_tokens() -> None:
    pace = learnt(fixed=0.014, per_token=1.5e-4)
    assert pace.fixed_s == pytest.approx(0.014)
    assert pace.per_token_s == pytest.approx(1.5e-4)
    assert pace.tokens_for(0.12) == pytest.approx((0.12 - 0.014) / 1.5e-4, abs=1)


def test_sizes_follow_a_change_of_speed() -> None:
    pace = learnt(fixed=0.0, per_token=1e-4)
    assert pace.tokens_for(0.12) == pytest.approx(1200, abs=2)
    measure(pace, fixed=0.0, per_token=4e-4, sizes=(100, 1000))
    assert pace.tokens_for(0.12) == pytest.approx(300, abs=15)


def test_batches_of_one_size_keep_what_is_known_of_the_fixed_cost() -> None:
    pace = learnt(fixed=0.01, per_token=1e-4)
    measure(pace, fixed=0.01, per_token=1e-4, sizes=(700,))
    assert pace.tokens_for(0.12) == pytest.approx(1100, abs=60)


def test_equal_small_batches_do_not_keep_batches_small_for_ever() -> None:
    pace = learnt(fixed=0.014, per_token=1.5e-4, sizes=(48,))
    tokens = 48
    for _ in range(40):
        tokens = max(48, pace.tokens_for(0.12) // 48 * 48)
        pace.observe(tokens, 0.014 + tokens * 1.5e-4)
    assert tokens == pytest.approx(0.106 / 1.5e-4, rel=0.1)


def test_noise_never_makes_nonsense_of_it() -> None:
    chance = random.Random(5)
    pace = Throughput()
    for _ in range(2000):
        pace.observe(chance.randint(1, 4000), chance.expovariate(100))
        assert pace.per_token_s > 0
        assert pace.fixed_s >= 0
        assert MIN_TOKENS <= pace.tokens_for(0.12) <= MAX_TOKENS


def test_sizes_have_a_floor_and_a_ceiling() -> None:
    assert learnt(fixed=0.0, per_token=1.0).tokens_for(0.12) == MIN_TOKENS
    assert learnt(fixed=1.0, per_token=1e-4).tokens_for(0.12) == MIN_TOKENS
    assert learnt(fixed=0.0, per_token=1e-7).tokens_for(0.12) == MAX_TOKENS


def test_a_machine_that_slept_in_a_batch_is_not_taken_for_slow() -> None:
    pace = learnt(fixed=0.0, per_token=1e-4)
    pace.observe(1000, 3600.0)
    assert pace.fixed_s + 1000 * pace.per_token_s < 0.3


@pytest.mark.parametrize(("tokens", "seconds"), [(0, 1.0), (5, 0.0), (5, -1.0)])
def test_what_measures_nothing_teaches_nothing(tokens: int, seconds: float) -> None:
    pace = Throughput()
    pace.observe(tokens, seconds)
    assert (pace.fixed_s, pace.per_token_s) == (0.0, FIRST_GUESS_S)


def test_work_takes_the_time_of_its_tokens_and_of_the_batches_they_make() -> None:
    pace = learnt(fixed=0.01, per_token=1e-4)
    assert pace.seconds_for(MAX_TOKENS) == pytest.approx(0.01 + MAX_TOKENS * 1e-4, rel=0.05)
    assert pace.seconds_for(0) == 0
