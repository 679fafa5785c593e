from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.problems import Problem
from sidecar.scheduling import inference
from sidecar.scheduling.scheduler import (
    Batch,
    BatchBuilder,
    BatchKey,
    Job,
    Lane,
    Reservation,
    Scheduler,
)
from sidecar.settings import Limits

LIMITS = Limits(max_batch_rows=5, max_batch_tokens=80)
KEYS = [
    BatchKey("mean", normalize=True),
    BatchKey("cls", normalize=True),
    BatchKey("mean", normalize=True, model=1),
]
# Long requests: all their jobs are in the first space.
CLAIMS = [
    Reservation(tokens=1_000, is_interactive=is_interactive) for is_interactive in (False, True)
]
POISON, DEADLY = 1, 2
CANARY = (7,)


def encode(batch: list[list[int]]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Return a row that tells which text it belongs to; some texts fail the call, or themselves."""
    if any(ids[1:2] == [DEADLY] for ids in batch):
        raise ValueError
    rows = np.array([[ids[0], len(ids)] for ids in batch], dtype=np.float32)
    rows[[ids[1:2] == [POISON] for ids in batch]] = np.nan
    return rows


class Clients(RuleBasedStateMachine):
    """Requests come, leave and are computed in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(LIMITS)
        self.now = 0.0
        self.number = 100
        self.jobs: dict[Job, list[list[int]]] = {}
        self.disconnected: set[Job] = set()
        self.ended: list[Job] = []

    @rule(
        lengths=st.lists(st.integers(2, 60), min_size=1, max_size=12),
        key=st.sampled_from(KEYS),
        is_interactive=st.booleans(),
        is_long=st.booleans(),
        bad=st.sampled_from([0, 0, 0, POISON, DEADLY]),
        at=st.integers(0, 11),
    )
    def comes(
        self,
        lengths: list[int],
        key: BatchKey,
        bad: int,
        at: int,
        *,
        is_interactive: bool,
        is_long: bool,
    ) -> None:
        texts = []
        for length in lengths:
            self.number += 1
            texts.append([self.number] + [0] * (length - 1))
        if at < len(texts):
            texts[at][1] = bad
        job = Job(
            texts,
            dim=2,
            key=KEYS[0] if is_long else key,
            is_interactive=is_interactive,
            reservation=CLAIMS[is_interactive] if is_long else None,
        )
        self.jobs[job] = texts
        self.scheduler.add(job, self.now)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(list(self.jobs)))
        if job.close():
            self.disconnected.add(job)
        self.scheduler.remove(job)

    @rule(pads=st.booleans(), seconds=st.floats(0, 3), is_late=st.booleans())
    def computes(self, seconds: float, *, pads: bool, is_late: bool) -> None:
        self.now += seconds
        for model in (0, 1):
            self.scheduler.traits[model].pads = pads
        batch = self.scheduler.take(self.now)
        if batch is None:
            assert sum(self.scheduler.queued.values()) == 0
            return
        self.check(batch)
        if is_late:  # the client of the first text leaves while it is computed
            job = batch.items[0].job
            if job.close():
                self.disconnected.add(job)
            self.scheduler.remove(job)
        ended, _ = inference.run(batch.items, encode, canary=CANARY)  # type: ignore[arg-type]
        pace = self.scheduler.traits[batch.key.model].pace
        pace.observe(batch.tokens, 0.01 + seconds / 100)
        for job in ended:
            self.scheduler.remove(job)
        self.ended += ended

    def check(self, batch: Batch) -> None:
        assert {item.job.key for item in batch.items} == {batch.key}
        assert len({item.job.is_interactive for item in batch.items}) == 1
        assert len(batch.items) <= LIMITS.max_batch_rows
        assert batch.tokens <= LIMITS.max_batch_tokens or len(batch.items) == 1
        assert batch.tokens >= sum(len(item.ids) for item in batch.items)

    @invariant()
    def every_answer_is_its_own(self) -> None:
        assert len(self.ended) == len(set(self.ended))
        for job in self.ended:
            self.check_answer(job)

    def check_answer(self, job: Job) -> None:
        texts = self.jobs[job]
        bad = [place for place, ids in enumerate(texts) if ids[1] in (POISON, DEADLY)]
        if bad:
            problem = job.problem
            assert isinstance(problem, Problem)
            assert problem.what.startswith(f"texts.{bad[0]}: ")
        else:
            assert job.problem is None
            assert job.rows.tolist() == [[ids[0], len(ids)] for ids in texts]

    def teardown(self) -> None:
        while sum(self.scheduler.queued.values()):
            self.computes(0.0, pads=True, is_late=False)
        assert self.scheduler.take(self.now) is None
        assert set(self.ended) | self.disconnected == set(self.jobs)
        assert not set(self.ended) & self.disconnected
        self.every_answer_is_its_own()


TestClients = Clients.TestCase


@given(
    lengths=st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=20), min_size=1, max_size=6),
    max_tokens=st.integers(1, 200),
    max_rows=st.integers(1, 8),
    pads=st.booleans(),
)
def test_a_lane_gives_every_text_once_within_the_room(
    lengths: list[list[int]], max_tokens: int, max_rows: int, *, pads: bool
) -> None:
    lane = Lane()
    jobs = [
        Job([[0] * n for n in one], dim=1, key=KEYS[0], is_interactive=False) for one in lengths
    ]
    for job in jobs:
        lane.add(job)
    taken: list[tuple[Job, int]] = []
    while len(lane):
        assert lane.queued_tokens > 0
        batch = lane.take(BatchBuilder(max_tokens=max_tokens, max_rows=max_rows, pads=pads))
        assert batch.items
        assert len(batch.items) <= max_rows
        assert batch.tokens <= max_tokens or len(batch.items) == 1
        taken += batch.items
    everything = [
        (job, place) for job, one in zip(jobs, lengths, strict=True) for place in range(len(one))
    ]
    assert len(taken) == len(everything)
    assert set(taken) == set(everything)
