"""Two models in one scheduler, the second of which takes ten times as long for a token."""

from __future__ import annotations

import pytest

from sidecar.scheduling.scheduler import BUSY_MOST_S, TURNS, Batch, BatchKey, Scheduler
from sidecar.settings import Limits
from tests.unit.sidecar.scheduling.conftest import KEY, job, lengths

SLOW = BatchKey("mean", normalize=True, model=1)
PER_TOKEN, SLOWER = 1e-4, 10


def made(limits: Limits | None = None) -> Scheduler:
    scheduler = Scheduler(limits or Limits())
    for model, per_token in ((0, PER_TOKEN), (1, SLOWER * PER_TOKEN)):
        traits = scheduler.traits[model]
        traits.pads = False
        for tokens in (100, 1000) * 40:
            traits.pace.observe(tokens, tokens * per_token)
    return scheduler


def next_of(scheduler: Scheduler, now: float) -> Batch:
    batch = scheduler.take(now)
    assert batch is not None
    return batch


def test_texts_of_two_models_never_share_a_batch() -> None:
    scheduler = made()
    for key in (KEY, SLOW) * 3:
        scheduler.add(job([5], key=key, is_interactive=True), now=0.0)
    first, second = next_of(scheduler, 0.0), next_of(scheduler, 0.0)
    assert (first.key, len(first.items)) == (KEY, 3)
    assert (second.key, len(second.items)) == (SLOW, 3)
    assert scheduler.take(0.0) is None


def test_requests_of_two_models_lead_in_turn() -> None:
    scheduler = made(Limits(max_batch_rows=1))
    for key in (KEY, SLOW):
        scheduler.add(job([9] * 3, key=key), now=0.0)
    assert [next_of(scheduler, 9.0).key for _ in range(6)] == [KEY, SLOW] * 3


def test_batches_are_as_large_as_each_models_speed_allows() -> None:
    scheduler = made()
    for key in (KEY, SLOW):
        scheduler.add(job([40] * 1000, key=key), now=0.0)
    sizes = [next_of(scheduler, 9.0).tokens for _ in range(2)]
    assert sizes[0] == pytest.approx(SLOWER * sizes[1], rel=0.1)


def test_each_engines_facts_bound_the_batches_of_its_own_model() -> None:
    scheduler = made()
    scheduler.traits[1].pads, scheduler.traits[1].best_tokens = True, 25
    for key in (KEY, SLOW):
        scheduler.add(job([10, 10, 6], key=key), now=0.0)
    assert lengths(scheduler.take(9.0)) == [10, 10, 6]
    assert lengths(scheduler.take(9.0)) == [10, 10]


def test_a_slow_models_interactive_work_holds_up_bulk_work_no_longer() -> None:
    """In time: a tenth as many of its tokens are computed before the bulk work has a batch."""
    waited = {}
    for key in (KEY, SLOW):
        scheduler = made(Limits(max_batch_rows=1))
        scheduler.add(job([50] * 1000), now=0.0)
        for _ in range(1000):
            scheduler.add(job([8], key=key, is_interactive=True), now=0.0)
        tokens = 0
        while (batch := next_of(scheduler, 0.0)).items[0].job.is_interactive:
            tokens += batch.tokens
        waited[key] = tokens
    assert waited[KEY] == pytest.approx(SLOWER * waited[SLOW], rel=0.2)
    assert waited[KEY] * PER_TOKEN <= 2 * TURNS * BUSY_MOST_S


def test_how_long_there_is_no_room_goes_by_what_waits_of_each_model() -> None:
    waits = []
    for keys in ((KEY, KEY), (KEY, SLOW), (SLOW, SLOW)):
        scheduler = made(Limits(max_queued_tokens=100))
        for key in keys:
            scheduler.add(job([50], key=key), now=0.0)
        waits.append(scheduler.wait_s(10, is_interactive=False))
    fast, mixed, slow = waits
    assert slow == pytest.approx(SLOWER * fast, rel=0.01)
    assert mixed == pytest.approx((fast + slow) / 2, rel=0.01)
