from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.metrics import Counts
from sidecar.models.loader import Loaded
from sidecar.problems import Problem
from sidecar.scheduling.inference import Inference
from sidecar.scheduling.scheduler import BatchKey, Job
from sidecar.settings import Limits
from tests.support.stub_engine import SNAPSHOT, StubEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = BatchKey("mean", normalize=True)
POISON = 666


class Bench:
    """An inference thread around a stub engine, and the jobs that ended."""

    def __init__(self, limits: Limits | None = None, **options: Any) -> None:
        self.engine = StubEngine()
        self.ended: list[Job] = []
        self.change = threading.Condition()
        self.trims: list[str] = []
        now = options.pop("now", time.monotonic)
        self.inference = Inference(limits or Limits(), self._post, counts=Counts(), now=now)
        for name, value in {"trim": self._trim, "trim_after_s": 600.0, **options}.items():
            setattr(self.inference, name, value)

    def begin(self) -> Bench:
        loaded = Loaded(engine=self.engine, snapshot=SNAPSHOT)
        self.inference.begin(lambda: loaded).result(30)
        return self

    def submit(self, *texts: list[int]) -> Job:
        made = Job(texts, dim=self.engine.dim, key=KEY, is_interactive=False)
        self.inference.submit(made)
        return made

    def wait_for(self, *jobs: Job) -> None:
        with self.change:
            assert self.change.wait_for(lambda: set(jobs) <= set(self.ended), 30)

    def close(self) -> None:
        self.engine.gate.set()
        self.inference.close(wait=True)

    def _post(self, jobs: list[Job]) -> None:
        with self.change:
            self.ended += jobs
            self.change.notify_all()

    def _trim(self) -> None:
        with self.change:
            self.trims.append(threading.current_thread().name)
            self.change.notify_all()


@pytest.fixture
def make() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def one(*arguments: Any, **options: Any) -> Bench:
        made.append(Bench(*arguments, **options))
        return made[-1]

    yield one
    for bench in made:
        bench.close()


def until(reservation: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not reservation():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_jobs_are_computed_and_handed_back(make: Callable[..., Bench]) -> None:
    bench = make().begin()
    job = bench.submit([1, 5, 2], [1, 6, 2])
    bench.wait_for(job)
    expected = bench.engine.encode([[1, 5, 2], [1, 6, 2]], pooling="mean", normalize=True)
    assert (job.rows == expected).all()
    assert job.problem is None
    assert sum(bench.inference.scheduler.queued.values()) == 0


def test_what_keeps_the_engine_from_loading_is_told(make: Callable[..., Bench]) -> None:
    def load() -> Loaded:
        raise SystemExit(3)

    bench = make()
    assert isinstance(bench.inference.begin(load).exception(30), SystemExit)
    assert bench.inference.state == "ok"


def test_a_system_without_threads_is_told_when_loading(
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make()
    loaded = Loaded(engine=bench.engine, snapshot=SNAPSHOT)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        failed = bench.inference.begin(lambda: loaded).exception(30)
    assert isinstance(failed, RuntimeError)
    bench.inference._thread = None  # for the teardown: it cannot be joined


def no_thread(_: object) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("death", [SystemExit(1), KeyboardInterrupt()], ids=repr)
def test_a_dead_thread_is_replaced_and_the_rest_of_the_queue_is_served(
    make: Callable[..., Bench], death: BaseException
) -> None:
    bench = make(Limits(max_batch_rows=1)).begin()
    bench.engine.poison, bench.engine.failure = POISON, death
    bench.engine.gate.clear()
    first = bench.submit([1, POISON, 2])
    assert bench.engine.entered.wait(30)
    others = [bench.submit([1, number, 2]) for number in range(5)]
    bench.engine.gate.set()
    bench.wait_for(first, *others)
    assert first.problem is not None
    assert (first.problem.status, first.problem.kind) == (503, "engine-died")
    assert [job.problem for job in others] == [None] * 5
    assert len(bench.engine.threads) <= 2
    assert bench.inference.state == "ok"


def test_a_thread_that_cannot_be_replaced_is_told_and_tried_again(
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make().begin()
    bench.engine.poison, bench.engine.failure = POISON, SystemExit(1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        dying = bench.submit([1, POISON, 2])
        bench.wait_for(dying)
        until(lambda: bench.inference.state == "dead")
        waiting = bench.submit([1, 5, 2])
        until(lambda: bench.inference.state == "dead")
    bench.inference.revive()
    bench.wait_for(waiting)
    assert waiting.problem is None
    assert bench.inference.state == "ok"


def test_an_encode_that_does_not_come_back_is_stuck_until_it_does(
    make: Callable[..., Bench],
) -> None:
    bench = make(stuck_s=0.0).begin()
    bench.engine.gate.clear()
    job = bench.submit([1, 5, 2])
    until(lambda: bench.inference.state == "stuck")
    bench.engine.gate.set()
    bench.wait_for(job)
    assert bench.inference.state == "ok"


def test_an_encode_that_was_suspended_is_not_stuck(make: Callable[..., Bench]) -> None:
    hands = [100.0]
    bench = make(stuck_s=60.0, now=lambda: hands[0]).begin()
    bench.engine.gate.clear()
    job = bench.submit([1, 5, 2])
    assert bench.engine.entered.wait(30)
    states = []
    for passed in (59, 2):
        hands[0] += passed
        states.append(bench.inference.state)
    assert states == ["ok", "stuck"]
    bench.engine.gate.set()
    bench.wait_for(job)


def test_a_dropped_job_costs_nothing_any_more(make: Callable[..., Bench]) -> None:
    bench = make(Limits(max_batch_rows=1)).begin()
    bench.engine.gate.clear()
    first = bench.submit([1, 5, 2], [1, 6, 2], [1, 7, 2])
    assert bench.engine.entered.wait(30)
    second = bench.submit([1, 8, 2])
    bench.inference.drop(first)
    assert sum(bench.inference.scheduler.queued.values()) == 3
    bench.engine.gate.set()
    bench.wait_for(second)
    assert len(bench.engine.calls) == 2
    assert first not in bench.ended


def test_what_waits_when_it_closes_fails_with_503(make: Callable[..., Bench]) -> None:
    bench = make(Limits(max_batch_rows=1)).begin()
    bench.engine.gate.clear()
    running = bench.submit([1, 5, 2])
    assert bench.engine.entered.wait(30)
    queued = bench.submit([1, 8, 2])
    bench.inference.close(wait=False)
    bench.wait_for(queued)
    assert queued.problem is not None
    assert queued.problem.status == 503
    with pytest.raises(Problem, match="stopping"):
        bench.submit([1, 9, 2])
    bench.engine.gate.set()
    bench.wait_for(running)
    assert running.problem is None


def test_memory_is_trimmed_once_per_idle_time_by_the_thread_that_computes(
    make: Callable[..., Bench],
) -> None:
    bench = make(trim_after_s=0.001).begin()
    until(lambda: len(bench.trims) == 1)
    time.sleep(0.02)
    assert bench.trims == ["inference"]
    bench.wait_for(bench.submit([1, 5, 2]))
    until(lambda: len(bench.trims) == 2)
    time.sleep(0.02)
    assert bench.trims == ["inference"] * 2


def test_memory_that_was_freed_beside_the_work_is_trimmed_once(
    make: Callable[..., Bench],
) -> None:
    bench = make(trim_after_s=0.001).begin()
    until(lambda: len(bench.trims) == 1)
    bench.inference.freed()
    until(lambda: len(bench.trims) == 2)
    bench.inference.freed()
    until(lambda: len(bench.trims) == 3)
    time.sleep(0.02)
    assert bench.trims == ["inference"] * 3
    assert bench.engine.trims == 3


def test_memory_that_is_freed_again_and_again_is_trimmed_nonetheless(
    make: Callable[..., Bench],
) -> None:
    bench = make(trim_after_s=0.1).begin()
    until(lambda: len(bench.trims) == 1)

    def trims_after_one_more() -> bool:
        bench.inference.freed()
        return len(bench.trims) == 2

    until(trims_after_one_more)


def test_the_engine_gives_back_its_memory_too_when_nothing_is_to_do(
    make: Callable[..., Bench],
) -> None:
    bench = make(trim_after_s=0.001).begin()
    until(lambda: len(bench.trims) == 1)
    assert bench.engine.trims == 1


def test_an_engine_that_cannot_give_back_its_memory_goes_on(
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError

    bench = make(trim_after_s=0.001)
    monkeypatch.setattr(bench.engine, "trim", fail)
    bench.begin()
    until(lambda: len(bench.trims) == 1)
    job = bench.submit([1, 5, 2])
    bench.wait_for(job)
    assert job.problem is None
    assert bench.inference.state == "ok"


def test_what_there_is_no_room_for_is_refused_with_the_time_to_come_again(
    make: Callable[..., Bench],
) -> None:
    bench = make(Limits(max_queued_tokens=5, max_batch_rows=1)).begin()
    bench.engine.gate.clear()
    running = bench.submit([1, 5, 2])
    assert bench.engine.entered.wait(30)
    waiting = bench.submit([1, 5, 2])
    with pytest.raises(Problem) as caught:
        bench.submit([1, 5, 2])
    assert (caught.value.status, caught.value.kind) == (429, "busy")
    assert 1 <= (caught.value.retry_s or 0) <= 60
    bench.inference.require_room(2, is_interactive=False)
    with pytest.raises(Problem):
        bench.inference.require_room(3, is_interactive=False)
    bench.inference.require_room(3, is_interactive=True)
    bench.engine.gate.set()
    bench.wait_for(running)
    bench.wait_for(waiting)
    bench.inference.require_room(10**6, is_interactive=False)
