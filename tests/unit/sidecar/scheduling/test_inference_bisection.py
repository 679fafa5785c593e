from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sidecar.scheduling import inference
from sidecar.scheduling.scheduler import BatchItem, BatchKey, Job

if TYPE_CHECKING:
    from collections.abc import Sequence

CANARY = (1, 2)
KEY = BatchKey("mean", normalize=True)


class Engine:
    """Gives the first id as a row; fails on some ids."""

    def __init__(self, *poison: int, failure: Exception | float | None = None) -> None:
        self.poison = set(poison)
        self.failure = ValueError("secret") if failure is None else failure
        self.calls: list[int] = []

    def __call__(self, batch: Sequence[Sequence[int]]) -> Any:
        self.calls.append(len(batch))
        is_bad = [bool(self.poison & set(ids)) for ids in batch]
        if any(is_bad) and isinstance(self.failure, Exception):
            raise self.failure
        rows = np.array([[ids[0], 1] for ids in batch], dtype=np.float32)
        if not isinstance(self.failure, Exception):
            rows[is_bad, 1] = self.failure
        return rows


def jobs(*texts: Sequence[int]) -> list[Job]:
    """Return one job per argument, with one text of one token per number."""
    return [Job([[t] for t in one], dim=2, key=KEY, is_interactive=False) for one in texts]


def run(made: Sequence[Job], engine: Engine, *, counts: Sequence[int]) -> tuple[list[Job], bool]:
    items = [
        BatchItem(job, place)
        for job, count in zip(made, counts, strict=True)
        for place in range(count)
    ]
    return inference.run(items, engine, canary=CANARY)


def test_a_batch_that_works_is_one_call_and_ends_its_jobs() -> None:
    made = jobs([10, 11], [12])
    engine = Engine()
    outcome = run(made, engine, counts=[2, 1])
    assert outcome == (made, True)
    assert engine.calls == [3]
    assert made[0].rows[:, 0].tolist() == [10, 11]
    assert [job.problem for job in made] == [None, None]


def test_a_job_with_texts_in_other_batches_goes_on() -> None:
    made = jobs([10, 11])
    assert run(made, Engine(), counts=[1])[0] == []
    assert made[0].is_open


@pytest.mark.parametrize("failure", [None, float("nan"), float("inf")])
def test_only_the_job_with_the_poison_fails_and_its_index_is_named(
    failure: float | None,
) -> None:
    made = jobs(range(10, 20), [20, 66, 21], range(30, 35))
    ended, is_clean = run(made, Engine(66, failure=failure), counts=[10, 3, 5])
    assert set(ended) == set(made)
    assert not is_clean
    assert [job.problem is None for job in made] == [True, False, True]
    problem = made[1].problem
    assert problem is not None
    assert (problem.status, problem.kind) == (422, "text-fails")
    assert problem.what.startswith("texts.1: ")
    assert "secret" not in problem.what + problem.why
    assert made[0].rows[:, 0].tolist() == list(range(10, 20))
    assert made[2].rows[:, 0].tolist() == list(range(30, 35))


def test_one_poison_costs_few_calls() -> None:
    made = jobs(*([number] for number in range(10, 266)))
    engine = Engine(99)
    run(made, engine, counts=[1] * 256)
    assert sum(job.problem is not None for job in made) == 1
    assert len(engine.calls) <= 2 * 8 + 2


def test_a_failed_job_costs_no_more_calls() -> None:
    made = jobs([66] * 64)
    engine = Engine(66)
    run(made, engine, counts=[64])
    assert len(engine.calls) == 1 + 1 + 6  # the batch, the canary, and halves down to one


@pytest.mark.parametrize(
    "failure",
    [MemoryError(), RuntimeError("CUDA out of memory"), RuntimeError("Failed to allocate memory")],
)
def test_memory_that_runs_out_is_507_for_the_text_that_needs_it(failure: Exception) -> None:
    made = jobs([10], [66])
    run(made, Engine(66, failure=failure), counts=[1, 1])
    assert made[0].problem is None
    problem = made[1].problem
    assert problem is not None
    assert (problem.status, problem.kind) == (507, "out-of-memory")


@pytest.mark.parametrize(("failure", "status"), [(None, 503), (MemoryError(), 507)])
def test_an_engine_that_fails_on_everything_blames_no_text(
    failure: Exception | None, status: int
) -> None:
    made = jobs([66, 66], [66])
    engine = Engine(66, *CANARY, failure=failure)
    ended, _ = run(made, engine, counts=[2, 1])
    assert set(ended) == set(made)
    assert [job.problem.status for job in made if job.problem] == [status, status]
    assert all("texts." not in job.problem.what for job in made if job.problem)
    assert engine.calls == [3, 1]


def test_a_canary_that_is_not_finite_is_a_failure_of_the_engine() -> None:
    made = jobs([66])
    run(made, Engine(66, *CANARY, failure=float("nan")), counts=[1])
    assert made[0].problem is not None
    assert made[0].problem.kind == "engine-fails"


@pytest.mark.parametrize("shape", [(0, 2), (3, 2), (2,), ()], ids=str)
def test_rows_of_another_shape_are_a_failure(shape: tuple[int, ...]) -> None:
    made = jobs([10], [11])
    items = [BatchItem(job, 0) for job in made]
    inference.run(items, lambda _: np.zeros(shape, dtype=np.float32), canary=CANARY)
    assert all(job.problem is not None for job in made)


def test_texts_of_a_job_that_ended_meanwhile_are_left_out() -> None:
    made = jobs([10], [11])
    made[0].close()
    engine = Engine()
    assert run(made, engine, counts=[1, 1])[0] == [made[1]]
    assert engine.calls == [1]
