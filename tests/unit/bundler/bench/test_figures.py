from __future__ import annotations

import pytest

from bundler.bench.figures import latency, paired, percentile


def test_a_percentile_lies_between_its_neighbours() -> None:
    values = [4.0, 1.0, 3.0, 2.0]
    assert percentile(values, 0.0) == 1.0
    assert percentile(values, 1.0) == 4.0
    assert percentile(values, 0.5) == 2.5
    assert percentile([7.0], 0.95) == 7.0


def test_latency_counts_and_ranks() -> None:
    found = latency([float(n) for n in range(101)])
    assert (found.count, found.p50, found.p95, found.p99) == (101, 50.0, 95.0, 99.0)


def test_a_round_that_was_slow_for_both_sides_does_not_move_a_paired_ratio() -> None:
    assert paired([2.0, 20.0, 2.0], [1.0, 10.0, 1.0]) == 2.0


def test_the_odd_round_does_not_decide_a_paired_ratio() -> None:
    assert paired([2.0, 90.0, 2.0], [1.0, 1.0, 1.0]) == 2.0


@pytest.mark.parametrize(("over", "under"), [([1.0], [1.0, 2.0]), ([1.0], [0.0]), ([], [])])
def test_sides_that_do_not_match_give_no_ratio(over: list[float], under: list[float]) -> None:
    with pytest.raises(ValueError, match=r"paired|no median"):
        paired(over, under)


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)
