from __future__ import annotations

import numpy as np

from sidecar.problems import stopping
from tests.unit.sidecar.scheduling.conftest import job


def test_the_longest_text_is_taken_first_and_equals_in_their_order() -> None:
    made = job([1, 5, 3, 5])
    taken = [made.take(made.longest()).place for _ in range(4)]
    assert taken == [1, 3, 2, 0]
    assert not made.is_waiting


def test_near_gives_both_sides_of_a_length() -> None:
    made = job([1, 2, 3, 4, 5, 6])
    assert [text.length for text in made.near(3, count=2)] == [2, 3, 4, 5]
    assert [text.length for text in made.near(99, count=2)] == [5, 6]


def test_a_text_from_the_middle_can_be_taken() -> None:
    made = job([3, 3, 3, 9])
    middle = next(text for text in made.near(3, count=9) if text.place == 1)
    assert made.take(middle).place == 1
    assert [made.take(made.longest()).place for _ in range(3)] == [3, 0, 2]


def test_the_tokens_that_wait_are_counted() -> None:
    made = job([4, 6])
    assert made.queued_tokens == 10
    made.take(made.longest())
    assert made.queued_tokens == 4


def test_a_job_is_full_with_its_last_row_and_has_each_where_it_belongs() -> None:
    made = job([1, 1])
    assert not made.fill(1, np.array([3, 4], dtype=np.float32))
    assert made.fill(0, np.array([1, 2], dtype=np.float32))
    assert made.rows.tolist() == [[1, 2], [3, 4]]


def test_a_job_ends_once_and_keeps_its_first_problem() -> None:
    made = job([1])
    problem = stopping()
    assert made.close(problem)
    assert not made.close(stopping())
    assert made.problem is problem
    assert not made.is_open
