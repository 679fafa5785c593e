from __future__ import annotations

import random

from sidecar.batching import batches, slices


def test_nothing_makes_no_batches() -> None:
    assert batches([], max_rows=4, max_tokens=10) == []


def test_neighbours_in_length_share_a_batch_longest_first() -> None:
    assert batches([1, 9, 2, 8], max_rows=2, max_tokens=100) == [[1, 3], [2, 0]]


def test_equal_lengths_keep_their_order() -> None:
    assert batches([3, 3, 3], max_rows=2, max_tokens=100) == [[0, 1], [2]]


def test_a_text_over_the_budget_goes_alone() -> None:
    assert batches([50, 4, 4], max_rows=8, max_tokens=10) == [[0], [1, 2]]


def test_every_text_is_in_one_batch_within_both_limits() -> None:
    chance = random.Random(7)
    for _ in range(50):
        lengths = [chance.randint(1, 40) for _ in range(chance.randint(1, 60))]
        rows, tokens = chance.randint(1, 9), chance.randint(40, 200)
        made = batches(lengths, max_rows=rows, max_tokens=tokens)
        assert sorted(index for batch in made for index in batch) == list(range(len(lengths)))
        for batch in made:
            assert len(batch) <= rows
            assert max(lengths[index] for index in batch) * len(batch) <= tokens


def test_slices_keep_the_order_and_both_limits() -> None:
    assert slices([], max_rows=2, max_total=10) == []
    assert slices([99], max_rows=2, max_total=10) == [slice(0, 1)]
    chance = random.Random(11)
    for _ in range(50):
        lengths = [chance.randint(0, 40) for _ in range(chance.randint(1, 60))]
        rows, total = chance.randint(1, 9), chance.randint(1, 80)
        made = slices(lengths, max_rows=rows, max_total=total)
        assert [length for part in made for length in lengths[part]] == lengths
        for part in made:
            assert 1 <= len(lengths[part]) <= rows
            assert sum(lengths[part]) <= total or len(lengths[part]) == 1
