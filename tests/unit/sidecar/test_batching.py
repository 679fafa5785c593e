from __future__ import annotations

import random

from sidecar.batching import batches


def test_nothing_makes_no_batches() -> None:
    assert batches([], max_rows=4, max_tokens=10) == []


def test_neighbours_in_length_share_a_batch_longest_first() -> None:
    assert batches([1, 9, 2, 8], max_rows=2, max_tokens=100) == [[1, 3], [2, 0]]


def test_equal_lengths_keep_their_order() -> None:
    assert batches([3, 3, 3], max_rows=2, max_tokens=100) == [[0, 1], [2]]


def test_a_text_over_the_budget_goes_alone() -> None:
    assert batches([50, 4, 4], max_rows=8, max_tokens=10) == [[0], [1, 2]]


def test_every_text_is_in_one_batch_within_both_limits() -> None:
    chance = random.Random(7)  # noqa: S311
    for _ in range(50):
        lengths = [chance.randint(1, 40) for _ in range(chance.randint(1, 60))]
        rows, tokens = chance.randint(1, 9), chance.randint(40, 200)
        made = batches(lengths, max_rows=rows, max_tokens=tokens)
        assert sorted(index for batch in made for index in batch) == list(range(len(lengths)))
        for batch in made:
            assert len(batch) <= rows
            assert max(lengths[index] for index in batch) * len(batch) <= tokens
