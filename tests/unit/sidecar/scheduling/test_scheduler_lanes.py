from __future__ import annotations

import pytest

from sidecar.scheduling.scheduler import LOOKED_AT, BatchBuilder, BatchKey, Lane, Reservation
from tests.unit.sidecar.scheduling.conftest import job, lengths


def lane(*jobs: object) -> Lane:
    made = Lane()
    for one in jobs:
        made.add(one)  # type: ignore[arg-type]
    return made


def room(tokens: int = 1000, rows: int = 100, *, pads: bool = False) -> BatchBuilder:
    return BatchBuilder(max_tokens=tokens, max_rows=rows, pads=pads)


def test_a_job_is_cut_into_batches_of_neighbours_longest_first() -> None:
    line = lane(job([1, 9, 2, 8, 9]))
    assert lengths(line.take(room(rows=3))) == [9, 9, 8]
    assert lengths(line.take(room(rows=3))) == [2, 1]
    assert len(line) == 0


def test_a_text_over_the_tokens_goes_alone() -> None:
    line = lane(job([50, 4]), job([4]))
    assert lengths(line.take(room(10))) == [50]


@pytest.mark.parametrize(("pads", "expected"), [(True, [10, 9, 9]), (False, [10, 9, 9, 2])])
def test_padding_counts_where_the_engine_pads(*, pads: bool, expected: list[int]) -> None:
    assert lengths(lane(job([10, 9, 9, 2])).take(room(31, pads=pads))) == expected


def test_a_short_text_is_not_padded_to_a_multiple_of_itself() -> None:
    line = lane(job([500, *[10] * 30]))
    batch = line.take(room(4000, pads=True))
    assert lengths(batch)[0] == 500
    assert len(batch.items) == 1
    assert lengths(line.take(room(4000, pads=True))) == [10] * 30


def test_jobs_take_turns() -> None:
    first, second = job([5] * 6), job([5] * 4)
    line = lane(first, second)
    leaders = [line.take(room(rows=2)).items[0].job for _ in range(5)]
    assert leaders == [first, second, first, second, first]


def test_jobs_of_one_request_have_one_turn_and_share_a_batch_in_their_order() -> None:
    reservation = Reservation(tokens=100, is_interactive=False)
    first, second, other = (
        job([5] * 3, reservation=reservation),
        job([5] * 3, reservation=reservation),
        job([5] * 4),
    )
    line = lane(first, other, second)
    assert (len(line), line.tokens_of(reservation)) == (2, 30)
    leaders = [[item.job for item in line.take(room(rows=2)).items] for _ in range(5)]
    assert leaders == [[first] * 2, [other] * 2, [first, second], [other] * 2, [second] * 2]
    assert line.queued_tokens == line.tokens_of(reservation) == len(line) == 0


def test_a_job_that_left_leaves_the_others_of_its_request_in_the_line() -> None:
    reservation = Reservation(tokens=100, is_interactive=False)
    first, second = job([5] * 3, reservation=reservation), job([6] * 2, reservation=reservation)
    line = lane(first, second)
    line.remove(first)
    assert line.queued_tokens == 12
    assert lengths(line.take(room())) == [6, 6]
    assert len(line) == 0


def test_room_that_is_left_goes_to_other_jobs_nearest_in_length() -> None:
    first, near, far = job([10]), job([30, 11, 9]), job([90, 8])
    line = lane(first, far, near)
    assert lengths(line.take(room(rows=4))) == [11, 10, 9, 8]
    assert [lengths(line.take(room(rows=1))) for _ in range(2)] == [[90], [30]]
    assert len(line) == 0


def test_a_long_line_is_looked_at_up_to_a_place_and_loses_no_job() -> None:
    line = lane(*(job([9]) for _ in range(LOOKED_AT + 1)), job([8]))
    assert lengths(line.take(room(10_000, rows=LOOKED_AT + 2))) == [9] * (LOOKED_AT + 1)
    assert lengths(line.take(room())) == [8]
    assert len(line) == 0


def test_other_spaces_are_no_company() -> None:
    line = lane(job([5]), job([5], key=BatchKey("cls", normalize=True)), job([5]))
    assert [len(line.take(room()).items) for _ in range(2)] == [2, 1]


def test_a_job_that_left_is_not_served() -> None:
    leaves, stays = job([5] * 5), job([6])
    line = lane(leaves, stays)
    line.take(room(rows=1))
    line.remove(leaves)
    line.remove(leaves)  # does no harm
    assert line.queued_tokens == 6
    assert lengths(line.take(room())) == [6]
    assert len(line) == 0
