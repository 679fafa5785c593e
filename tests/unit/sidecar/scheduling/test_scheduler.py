from __future__ import annotations

import numpy as np
import pytest

from sidecar.problems import stopping
from sidecar.scheduling.scheduler import (
    BUSY_MOST_S,
    BUSY_S,
    CALM_S,
    INTERACTIVE_TOKENS,
    LATELY_S,
    SHARED_AT_MOST,
    TURNS,
    Batch,
    Job,
    QueuedItem,
    Reservation,
    Scheduler,
    is_interactive,
)
from sidecar.settings import Limits
from tests.unit.sidecar.scheduling.conftest import job, lengths

PER_TOKEN = 1e-4


def made(limits: Limits | None = None, *, pads: bool = False, fixed: float = 0.0) -> Scheduler:
    """Return a scheduler that has measured `fixed` seconds and PER_TOKEN for each token."""
    scheduler = Scheduler(limits or Limits())
    scheduler.traits[0].pads = pads
    learn(scheduler, fixed, PER_TOKEN)
    return scheduler


def learn(scheduler: Scheduler, fixed: float, per_token: float) -> None:
    for tokens in (100, 1000) * 40:
        scheduler.traits[0].pace.observe(tokens, fixed + tokens * per_token)


def next_of(scheduler: Scheduler, now: float) -> Batch:
    batch = scheduler.take(now)
    assert batch is not None
    return batch


@pytest.mark.parametrize(
    ("priority", "tokens", "expected"),
    [
        ("auto", INTERACTIVE_TOKENS, True),
        ("auto", INTERACTIVE_TOKENS + 1, False),
        ("bulk", 1, False),
        ("interactive", 10**6, True),
    ],
)
def test_a_few_tokens_are_interactive_unless_the_client_says_otherwise(
    priority: str, tokens: int, *, expected: bool
) -> None:
    assert is_interactive(priority, tokens) is expected  # type: ignore[arg-type]


def test_nothing_waits_at_first_and_again_when_all_is_taken() -> None:
    scheduler = made()
    assert scheduler.take(0.0) is None
    scheduler.add(job([5]), now=0.0)
    assert sum(scheduler.queued.values()) == 5
    assert lengths(scheduler.take(0.0)) == [5]
    assert scheduler.take(0.0) is None
    assert sum(scheduler.queued.values()) == 0


def test_each_lane_has_room_for_its_budget_and_an_empty_one_for_anything() -> None:
    scheduler = made(Limits(max_queued_tokens=100))
    for is_bulk in (False, True):
        assert scheduler.wait_s(10**6, is_interactive=not is_bulk) == 0
        scheduler.add(job([60], is_interactive=not is_bulk), now=0.0)
        assert scheduler.wait_s(40, is_interactive=not is_bulk) == 0
        assert scheduler.wait_s(41, is_interactive=not is_bulk) > 0


def test_whoever_finds_no_room_waits_as_long_as_the_surplus_takes() -> None:
    scheduler = made(Limits(max_queued_tokens=1000))
    scheduler.add(job([900]), now=0.0)
    assert scheduler.wait_s(600, is_interactive=False) == pytest.approx(500 * PER_TOKEN, rel=0.1)
    assert scheduler.wait_s(10**6, is_interactive=False) == pytest.approx(900 * PER_TOKEN, rel=0.1)
    scheduler.add(job([700], is_interactive=True), now=0.0)
    assert scheduler.wait_s(600, is_interactive=False) == pytest.approx(1200 * PER_TOKEN, rel=0.1)


def test_a_claim_keeps_its_share_whether_or_not_it_waits() -> None:
    scheduler = made(Limits(max_queued_tokens=100))
    reservation = Reservation(tokens=30, is_interactive=False)
    assert scheduler.reservation_wait_s(reservation) == 0
    scheduler.reservations.add(reservation)
    for _ in range(2):  # while nothing of it waits, and while all of it does
        assert scheduler.wait_s(70, is_interactive=False) == 0
        assert scheduler.wait_s(71, is_interactive=False) > 0
        assert scheduler.wait_s(100, is_interactive=True) == 0
        scheduler.add(job([10] * 3, reservation=reservation), now=0.0)
    scheduler.clear()
    scheduler.reservations.discard(reservation)
    assert not scheduler.reservations
    assert scheduler.wait_s(100, is_interactive=False) == 0


def test_claims_have_half_of_their_lane_and_one_that_is_alone_may_have_any() -> None:
    scheduler = made(Limits(max_queued_tokens=100))
    vast = Reservation(tokens=1000, is_interactive=False)
    assert scheduler.reservation_wait_s(vast) == 0
    first, second, third = (Reservation(tokens=25, is_interactive=False) for _ in range(3))
    scheduler.reservations.add(first)
    assert scheduler.reservation_wait_s(second) == 0
    assert scheduler.reservation_wait_s(vast) > 0
    scheduler.reservations.add(second)
    assert scheduler.reservation_wait_s(third) > 0
    assert scheduler.reservation_wait_s(Reservation(tokens=25, is_interactive=True)) == 0
    scheduler.reservations.discard(first)
    assert scheduler.reservation_wait_s(third) == 0


def test_a_claim_finds_no_room_where_short_requests_have_the_budget() -> None:
    scheduler = made(Limits(max_queued_tokens=100))
    scheduler.add(job([90]), now=0.0)
    assert scheduler.reservation_wait_s(Reservation(tokens=10, is_interactive=False)) == 0
    assert scheduler.reservation_wait_s(Reservation(tokens=11, is_interactive=False)) > 0


def test_long_and_short_requests_lead_in_turn() -> None:
    scheduler = made(Limits(max_batch_rows=1))
    reservations = [Reservation(tokens=100, is_interactive=False) for _ in range(3)]
    for reservation in reservations:
        for _ in range(2):
            scheduler.add(job([10] * 4, reservation=reservation), now=0.0)
    short = job([10] * 2)
    scheduler.add(short, now=0.0)
    leaders = [next_of(scheduler, 0.0).items[0].job.request for _ in range(8)]
    assert leaders == [*reservations, short] * 2


def test_texts_of_many_jobs_share_a_batch() -> None:
    scheduler = made()
    jobs = [job([5 + number], is_interactive=True) for number in range(10)]
    for one in jobs:
        scheduler.add(one, now=0.0)
    batch = next_of(scheduler, 0.0)
    assert {item.job for item in batch.items} == set(jobs)


def test_an_interactive_job_goes_between_the_batches_of_a_bulk_one() -> None:
    scheduler = made()
    bulk, short = job([50] * 1000), job([9], is_interactive=True)
    scheduler.add(bulk, now=0.0)
    assert next_of(scheduler, 0.0).items[0].job is bulk
    scheduler.add(short, now=0.1)
    assert lengths(scheduler.take(0.1)) == [9]
    assert next_of(scheduler, 0.1).items[0].job is bulk


def test_bulk_batches_are_short_for_a_while_after_an_interactive_request() -> None:
    scheduler = made()
    scheduler.add(job([40] * 10_000), now=0.0)
    calm = next_of(scheduler, 0.0).tokens
    scheduler.add(job([10], is_interactive=True), now=1.0)
    next_of(scheduler, 1.0)
    busy = next_of(scheduler, 1.0 + LATELY_S / 2).tokens
    calm_again = next_of(scheduler, 1.1 + LATELY_S).tokens
    assert calm == calm_again == pytest.approx(CALM_S / PER_TOKEN, abs=40)
    assert busy == pytest.approx(BUSY_S / PER_TOKEN, abs=40)


def test_no_batch_is_larger_than_is_best_for_the_engine() -> None:
    scheduler = made()
    scheduler.traits[0].best_tokens = 50
    scheduler.add(job([10] * 100), now=0.0)
    scheduler.add(job([10] * 20, is_interactive=True), now=0.0)
    batches = []
    while (batch := scheduler.take(10.0)) is not None:
        batches.append(batch.tokens)
    assert batches == [50] * 24


def test_sizes_adapt_when_the_machine_slows_down() -> None:
    scheduler = made()
    scheduler.add(job([40] * 10_000), now=0.0)
    before = next_of(scheduler, 0.0).tokens
    learn(scheduler, 0.0, 4 * PER_TOKEN)
    assert next_of(scheduler, 0.0).tokens == pytest.approx(before / 4, abs=40)


@pytest.mark.parametrize(("fixed", "seconds"), [(0.001, BUSY_S), (0.01, 0.03), (0.03, BUSY_MOST_S)])
def test_short_batches_are_long_enough_to_be_more_than_their_fixed_cost(
    fixed: float, seconds: float
) -> None:
    scheduler = made(fixed=fixed)
    scheduler.add(job([10], is_interactive=True), now=0.0)
    next_of(scheduler, 0.0)
    scheduler.add(job([10] * 1000), now=0.0)
    busy = next_of(scheduler, 0.0).tokens
    assert busy == pytest.approx((seconds - fixed) / PER_TOKEN, abs=20)


def test_bulk_work_gets_its_share_however_many_interactive_requests_come() -> None:
    scheduler = made()
    bulk = job([40] * 3000)
    scheduler.add(bulk, now=0.0)
    of_bulk = of_others = longest_wait = waited = 0
    for turn in range(400):
        now = turn / 100
        for _ in range(12):
            scheduler.add(job([50], is_interactive=True), now=now)
        batch = next_of(scheduler, now)
        if batch.items[0].job is bulk:
            of_bulk, waited = of_bulk + batch.tokens, 0
        else:
            of_others, waited = of_others + batch.tokens, waited + batch.tokens
        longest_wait = max(longest_wait, waited)
    longest_batch = CALM_S / PER_TOKEN
    turns = TURNS * BUSY_S / PER_TOKEN
    assert of_bulk / (of_bulk + of_others) > 0.6 * BUSY_S / (TURNS * BUSY_S + CALM_S)
    assert longest_wait <= turns + longest_batch


def test_interactive_work_is_never_held_up_by_more_than_one_bulk_batch() -> None:
    scheduler = made()
    bulk = job([40] * 3000)
    scheduler.add(bulk, now=0.0)
    in_a_row = most = 0
    for turn in range(200):
        scheduler.add(job([30], is_interactive=True), now=turn / 100)
        is_bulk = next_of(scheduler, turn / 100).items[0].job is bulk
        in_a_row = in_a_row + 1 if is_bulk else 0
        most = max(most, in_a_row)
    assert most == 1


def test_limits_bound_every_batch_whatever_the_speed() -> None:
    scheduler = made(Limits(max_batch_rows=3, max_batch_tokens=100))
    scheduler.add(job([10] * 50 + [60] * 5), now=0.0)
    while (batch := scheduler.take(0.0)) is not None:
        assert len(batch.items) <= 3
        assert batch.tokens <= 100


def test_what_was_removed_or_cleared_is_not_computed() -> None:
    scheduler = made()
    jobs = [job([5]), job([6], is_interactive=True), job([7])]
    for one in jobs:
        scheduler.add(one, now=0.0)
    scheduler.remove(jobs[0])
    assert set(scheduler.clear()) == {jobs[1], jobs[2]}
    assert scheduler.take(0.0) is None


def test_the_longest_text_is_taken_first_and_equals_in_their_order() -> None:
    made = job([1, 5, 3, 5])
    taken = [made.take(made.longest()).place for _ in range(4)]
    assert taken == [1, 3, 2, 0]
    assert not made.is_waiting


def test_near_gives_both_sides_of_a_length() -> None:
    made = job([1, 2, 3, 4, 5, 6])
    assert [text.length for text in made.near(3, count=2)] == [2, 3, 4, 5]
    assert [text.length for text in made.near(99, count=2)] == [5, 6]


def test_few_of_the_texts_that_wait_are_looked_at_for_a_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_at: list[QueuedItem] = []
    near = Job.near

    def counted(self: Job, length: int, *, count: int) -> list[QueuedItem]:
        looked_at.extend(near(self, length, count=count))
        return list(near(self, length, count=count))

    monkeypatch.setattr(Job, "near", counted)
    scheduler = made()
    scheduler.add(job([5]), now=0.0)
    for _ in range(64):
        scheduler.add(job([5] * 100), now=0.0)
    assert len(next_of(scheduler, 0.0).items) == Limits().max_batch_rows
    assert len(looked_at) <= 2 * SHARED_AT_MOST


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
